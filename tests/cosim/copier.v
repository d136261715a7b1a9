// A stand-in core for tests of the memory model: reads `bursts` bursts of `beats` beats from `source`,
// issuing addresses as fast as they are taken, then writes them to `target` burst by burst, and keeps
// the cycle of every handshake, counted from the first address, in logs that AXI4-Lite can read.
module copier #(parameter BYTES = 16) (
    input clk, input rst, output irq, output busy, output done,
    input [11:0] s_axil_awaddr, input s_axil_awvalid, output s_axil_awready,
    input [31:0] s_axil_wdata, input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready,
    output [1:0] s_axil_bresp, output reg s_axil_bvalid, input s_axil_bready,
    input [11:0] s_axil_araddr, input s_axil_arvalid, output s_axil_arready,
    output reg [31:0] s_axil_rdata, output [1:0] s_axil_rresp, output reg s_axil_rvalid, input s_axil_rready,
    output [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize, output [1:0] m_axi_arburst,
    output reg m_axi_arvalid, input m_axi_arready,
    input [8*BYTES-1:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast,
    input m_axi_rvalid, output m_axi_rready,
    output [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize, output [1:0] m_axi_awburst,
    output reg m_axi_awvalid, input m_axi_awready,
    output [8*BYTES-1:0] m_axi_wdata, output [BYTES-1:0] m_axi_wstrb, output m_axi_wlast,
    output reg m_axi_wvalid, input m_axi_wready,
    input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready
);
    // Registers: 0 start, 2 source, 3 target, 4 bursts, 5 beats; 1 status: done, read and write response.
    // Logs of 128 words at 0x200 (AR), 0x400 (R), 0x600 (AW), 0x800 (W), 0xa00 (B).
    reg [31:0] register [0:7];
    reg [31:0] log_ar [0:127], log_r [0:127], log_aw [0:127], log_w [0:127], log_b [0:127];
    reg [8*BYTES-1:0] buffer [0:127];
    reg [31:0] now, ars, rs, aws, ws, bs, beat;
    reg running;
    reg [1:0] read_response, write_response;
    wire [31:0] total = register[4] * register[5];

    assign done = !running, busy = running, irq = done && register[6][0];
    assign s_axil_awready = s_axil_awvalid && s_axil_wvalid, s_axil_wready = s_axil_awready;
    assign s_axil_arready = !s_axil_rvalid, s_axil_bresp = 0, s_axil_rresp = 0;
    assign m_axi_araddr = register[2] + ars * register[5] * BYTES, m_axi_arlen = register[5] - 1;
    assign m_axi_awaddr = register[3] + aws * register[5] * BYTES, m_axi_awlen = register[5] - 1;
    assign m_axi_arsize = $clog2(BYTES), m_axi_awsize = $clog2(BYTES), m_axi_arburst = 1, m_axi_awburst = 1;
    assign m_axi_rready = 1, m_axi_bready = 1, m_axi_wstrb = {BYTES{1'b1}};
    assign m_axi_wdata = buffer[ws[6:0]], m_axi_wlast = beat == register[5] - 1;

    always @(posedge clk) begin
        if (s_axil_awready) begin
            register[s_axil_awaddr[4:2]] <= s_axil_wdata;
            s_axil_bvalid <= 1;
            if (s_axil_awaddr == 0) begin
                running <= 1;
                m_axi_arvalid <= 1;
                {now, ars, rs, aws, ws, bs, beat, read_response, write_response} <= 0;
            end
        end else if (s_axil_bready) s_axil_bvalid <= 0;
        if (s_axil_arvalid && s_axil_arready) begin
            s_axil_rvalid <= 1;
            case (s_axil_araddr[11:9])
                0: s_axil_rdata <= s_axil_araddr == 4 ? {write_response, read_response, done}
                                                      : register[s_axil_araddr[4:2]];
                1: s_axil_rdata <= log_ar[s_axil_araddr[8:2]];
                2: s_axil_rdata <= log_r[s_axil_araddr[8:2]];
                3: s_axil_rdata <= log_aw[s_axil_araddr[8:2]];
                4: s_axil_rdata <= log_w[s_axil_araddr[8:2]];
                default: s_axil_rdata <= log_b[s_axil_araddr[8:2]];
            endcase
        end else if (s_axil_rready) s_axil_rvalid <= 0;
        if (running) begin
            now <= now + 1;
            if (m_axi_arvalid && m_axi_arready) begin
                log_ar[ars[6:0]] <= now;
                ars <= ars + 1;
                m_axi_arvalid <= ars + 1 < register[4];
            end
            if (m_axi_rvalid) begin
                log_r[rs[6:0]] <= now;
                buffer[rs[6:0]] <= m_axi_rdata;
                read_response <= read_response | m_axi_rresp;
                rs <= rs + 1;
                if (rs + 1 == total) m_axi_awvalid <= 1;
            end
            if (m_axi_awvalid && m_axi_awready) begin
                log_aw[aws[6:0]] <= now;
                aws <= aws + 1;
                {m_axi_awvalid, m_axi_wvalid, beat} <= {1'b0, 1'b1, 32'b0};
            end
            if (m_axi_wvalid && m_axi_wready) begin
                log_w[ws[6:0]] <= now;
                ws <= ws + 1;
                beat <= beat + 1;
                if (m_axi_wlast) begin
                    m_axi_wvalid <= 0;
                    m_axi_awvalid <= aws < register[4];
                end
            end
            if (m_axi_bvalid) begin
                log_b[bs[6:0]] <= now;
                bs <= bs + 1;
                write_response <= write_response | m_axi_bresp;
                if (bs + 1 == register[4]) running <= 0;
            end
        end
        if (rst) begin
            {running, m_axi_arvalid, m_axi_awvalid, m_axi_wvalid, s_axil_bvalid, s_axil_rvalid} <= 0;
            register[6] <= 0;
        end
    end
endmodule
