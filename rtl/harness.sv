// Test bench of one core: a memory behind its AXI4 port, a master before its AXI4-Lite port, and a
// mailbox through which a driver (cocotb or C++) asks for whole operations, so that the driver is
// off the cycle path. CORE is the core's module name; plusarg +work=DIR names the folder of files.

`default_nettype none
/* verilator lint_off BLKSEQ */

// AXI4 memory of one port. With stalls off, burst j whose address handshake is in cycle a_j gives its
// first beat at max(a_j + read_latency, previous beat + read_interval) and the next ones read_interval
// apart; a write data beat is accepted write_interval after the previous one at the earliest, and the
// response follows the last beat by write_latency. Bursts are answered in order. For each page it keeps
// the cycle of the last beat written there, counted as the core counts: cycle 0 is the first with busy.
module axi_memory #(
    parameter int BYTES = 16,
    parameter int CAPACITY = 1 << 26
) (
    input  wire clk,
    input  wire rst,
    input  wire busy,
    input  wire [31:0] image_bytes,
    input  wire [31:0] read_latency,
    input  wire [31:0] read_interval,
    input  wire [31:0] write_latency,
    input  wire [31:0] write_interval,
    input  wire [31:0] stall_seed,
    input  wire [31:0] error_first,
    input  wire [31:0] error_last,
    input  wire load,
    input  wire dump,
    input  wire [63:0] file_number,
    output logic [31:0] violations,
    output logic [31:0] written_first,
    output logic [31:0] written_end,
    input  wire arvalid,
    output logic arready,
    input  wire [31:0] araddr,
    input  wire [7:0] arlen,
    input  wire [2:0] arsize,
    input  wire [1:0] arburst,
    output logic rvalid,
    input  wire rready,
    output logic [8*BYTES-1:0] rdata,
    output logic [1:0] rresp,
    output logic rlast,
    input  wire awvalid,
    output logic awready,
    input  wire [31:0] awaddr,
    input  wire [7:0] awlen,
    input  wire [2:0] awsize,
    input  wire [1:0] awburst,
    input  wire wvalid,
    output logic wready,
    input  wire [8*BYTES-1:0] wdata,
    input  wire [BYTES-1:0] wstrb,
    input  wire wlast,
    output logic bvalid,
    input  wire bready,
    output logic [1:0] bresp
);
    localparam int SHIFT = $clog2(BYTES);
    localparam int WORDS = CAPACITY / BYTES;
    localparam int DEPTH = 128;  // bursts in flight in each direction
    localparam int PAGE_SHIFT = 12;
    localparam int PAGES = CAPACITY >> PAGE_SHIFT;
    localparam logic [1:0] OKAY = 2'b00, SLVERR = 2'b10, DECERR = 2'b11;

    logic [8*BYTES-1:0] cells [0:WORDS-1];
    logic [63:0] last_write [0:PAGES-1];  // 0 for none: a core fetches its program before it can write
    logic [63:0] now = 0, cycle = 0;
    logic [31:0] stall = 0;
    string folder;
    integer file, journal = 0;

    // Bursts accepted and not finished, as rings; the *_in and *_out counts wrap.
    logic [31:0] r_address [0:DEPTH-1], w_address [0:DEPTH-1];
    logic [8:0] r_beats [0:DEPTH-1], w_beats [0:DEPTH-1];
    logic [63:0] r_due [0:DEPTH-1], b_due [0:DEPTH-1];
    logic [1:0] b_kind [0:DEPTH-1];
    logic [31:0] ar_in, r_out, aw_in, w_out, b_in, b_out;
    logic [8:0] r_beat, w_beat;
    logic [63:0] r_next, w_next;
    logic [1:0] w_kind, kind;
    logic [31:0] address;
    logic [2:0] threshold;

    // What was offered and not taken last cycle, which must not change.
    logic held_ar, held_aw, held_w;
    logic [44:0] last_ar, last_aw;
    logic [8*BYTES+BYTES:0] last_w;

    function automatic logic [1:0] response(input logic [31:0] at);
        if (at >= image_bytes) return DECERR;
        return at >= error_first && at <= error_last ? SLVERR : OKAY;
    endfunction

    task automatic violate(input string rule, input logic [31:0] at);
        violations = violations + 1;
        if (violations <= 20) $fdisplay(journal, "cycle %0d, address 0x%08x: %s", now, at, rule);
    endtask

    task automatic check_burst(
        input string channel, input logic [31:0] at, input logic [7:0] len, input logic [2:0] size,
        input logic [1:0] burst);
        logic [31:0] total = (32'(len) + 1) << SHIFT;
        if (32'(size) != SHIFT) violate({channel, "SIZE is not the width of the bus"}, at);
        if (burst != 2'b01) violate({channel, "BURST is not INCR"}, at);
        if ((at & (BYTES - 1)) != 0) violate({channel, "ADDR is not a multiple of the bus width"}, at);
        if ((at & 4095) + total > 4096) violate({channel, ": burst crosses a 4 KiB boundary"}, at);
        if (33'(at) + 33'(total) > 33'(image_bytes)) violate({channel, ": burst leaves the memory image"}, at);
    endtask

    task automatic check_held;
        if (held_ar && (!arvalid || last_ar != {araddr, arlen, arsize, arburst}))
            violate("AR changed or dropped before its handshake", last_ar[44:13]);
        if (held_aw && (!awvalid || last_aw != {awaddr, awlen, awsize, awburst}))
            violate("AW changed or dropped before its handshake", last_aw[44:13]);
        if (held_w && (!wvalid || last_w != {wdata, wstrb, wlast}))
            violate("W changed or dropped before its handshake", 0);
        held_ar = arvalid && !arready;
        held_aw = awvalid && !awready;
        held_w = wvalid && !wready;
        last_ar = {araddr, arlen, arsize, arburst};
        last_aw = {awaddr, awlen, awsize, awburst};
        last_w = {wdata, wstrb, wlast};
    endtask

    task automatic accept_read;
        check_burst("AR", araddr, arlen, arsize, arburst);
        r_address[ar_in % DEPTH] = araddr;
        r_beats[ar_in % DEPTH] = 9'(arlen) + 1;
        r_due[ar_in % DEPTH] = now + 64'(read_latency);
        ar_in = ar_in + 1;
    endtask

    task automatic offer_read;
        if (rvalid && rready) r_next = now + 64'(read_interval);
        if (rvalid && !rready) return;
        rvalid <= 0;
        if (r_out == ar_in || now + 1 < r_due[r_out % DEPTH] || now + 1 < r_next) return;
        if (stall_seed != 0 && stall[2:0] < threshold) return;
        address = r_address[r_out % DEPTH] + (32'(r_beat) << SHIFT);
        kind = response(address);
        rvalid <= 1;
        rdata <= kind == DECERR ? '0 : cells[(address >> SHIFT) % WORDS];
        rresp <= kind;
        r_beat = r_beat + 1;
        rlast <= r_beat == r_beats[r_out % DEPTH];
        if (r_beat == r_beats[r_out % DEPTH]) begin
            r_beat = 0;
            r_out = r_out + 1;
        end
    endtask

    task automatic accept_write;
        check_burst("AW", awaddr, awlen, awsize, awburst);
        w_address[aw_in % DEPTH] = awaddr;
        w_beats[aw_in % DEPTH] = 9'(awlen) + 1;
        aw_in = aw_in + 1;
    endtask

    task automatic store(input logic [31:0] at);
        for (int i = 0; i < BYTES; i++)
            if (wstrb[i]) cells[(at >> SHIFT) % WORDS][8*i +: 8] = wdata[8*i +: 8];
        last_write[(at >> PAGE_SHIFT) % PAGES] = cycle;
        if (at < written_first) written_first = at;
        if (at + BYTES > written_end) written_end = at + BYTES;
    endtask

    task automatic accept_beat;
        w_next = now + 64'(write_interval);
        if (w_out == aw_in) begin
            violate("W beat before its AW handshake", 0);
            return;
        end
        address = w_address[w_out % DEPTH] + (32'(w_beat) << SHIFT);
        kind = response(address);
        if (kind == OKAY) store(address);
        else w_kind = kind;
        w_beat = w_beat + 1;
        if (wlast != (w_beat == w_beats[w_out % DEPTH])) violate("WLAST is not at the burst's last beat", address);
        if (w_beat == w_beats[w_out % DEPTH]) finish_write();
    endtask

    task automatic finish_write;
        b_due[b_in % DEPTH] = now + 64'(write_latency);
        b_kind[b_in % DEPTH] = w_kind;
        b_in = b_in + 1;
        w_out = w_out + 1;
        w_beat = 0;
        w_kind = OKAY;
    endtask

    task automatic offer_response;
        if (bvalid && !bready) return;
        bvalid <= 0;
        if (b_out == b_in || now + 1 < b_due[b_out % DEPTH]) return;
        if (stall_seed != 0 && stall[5:3] < threshold) return;
        bvalid <= 1;
        bresp <= b_kind[b_out % DEPTH];
        b_out = b_out + 1;
    endtask

    task automatic offer_ready;
        arready <= ar_in - r_out < DEPTH - 1 && !(stall_seed != 0 && stall[8:6] < threshold);
        awready <= aw_in - b_out < DEPTH - 1 && !(stall_seed != 0 && stall[11:9] < threshold);
        wready <= now + 1 >= w_next && !(stall_seed != 0 && stall[14:12] < threshold);
    endtask

    task automatic reset_channels;
        {arready, rvalid, awready, wready, bvalid} <= 0;
        {ar_in, r_out, aw_in, w_out, b_in, b_out} = 0;
        {r_beat, w_beat, w_kind, r_next, w_next} = 0;
        {held_ar, held_aw, held_w} = 0;
        written_first = '1;
        written_end = 0;
        stall = stall_seed;
        threshold = 1 + 3'(stall_seed % 6);
    endtask

    task automatic load_image;
        if (journal != 0) $fclose(journal);
        journal = $fopen($sformatf("%s/%0d.violations", folder, file_number), "w");
        file = $fopen($sformatf("%s/%0d.image", folder, file_number), "rb");
        if (file == 0) $fatal(1, "%s/%0d.image cannot be read", folder, file_number);
        void'($fread(cells, file, 0, (image_bytes + BYTES - 1) >> SHIFT));
        $fclose(file);
        for (int i = 0; i < PAGES; i++) last_write[i] = 0;
        violations = 0;
    endtask

    task automatic dump_written;
        $fflush(journal);
        file = $fopen($sformatf("%s/%0d.written", folder, file_number), "wb");
        if (file == 0) $fatal(1, "%s/%0d.written cannot be written", folder, file_number);
        for (int i = written_first >> SHIFT; i < written_end >> SHIFT; i++) $fwrite(file, "%u", cells[i]);
        $fclose(file);
    endtask

    task automatic dump_pages;
        file = $fopen($sformatf("%s/%0d.pages", folder, file_number), "w");
        if (file == 0) $fatal(1, "%s/%0d.pages cannot be written", folder, file_number);
        for (int i = 0; i < PAGES; i++) if (last_write[i] != 0) $fdisplay(file, "%0d %0d", i, last_write[i]);
        $fclose(file);
    endtask

    initial begin
        folder = ".";
        void'($value$plusargs("work=%s", folder));
    end

    always_ff @(posedge clk) begin
        if (load) load_image();
        if (dump) begin
            dump_written();
            dump_pages();
        end
        if (rst) reset_channels();
        else begin
            check_held();
            if (arvalid && arready) accept_read();
            offer_read();
            if (awvalid && awready) accept_write();
            if (wvalid && wready) accept_beat();
            offer_response();
            offer_ready();
        end
        // Xorshift, Marsaglia 2003 (13, 17, 5).
        stall = stall ^ (stall << 13);
        stall = stall ^ (stall >> 17);
        stall = stall ^ (stall << 5);
        now = now + 1;
        cycle = busy ? cycle + 1 : 0;
    end
endmodule

// The mailbox. An operation is asked for by making `request` differ from `reply`; it is finished, and
// `result` valid, when they are equal again. The operation codes are those of the Operation enumeration
// of the Python package.
module harness #(
    parameter int BYTES = 16,
    parameter int CAPACITY = 1 << 26
) (
    input  wire clk,
    input  wire request /* verilator public_flat_rw */,
    input  wire [7:0] operation /* verilator public_flat_rw */,
    input  wire [63:0] first /* verilator public_flat_rw */,
    input  wire [63:0] second /* verilator public_flat_rw */,
    output logic reply /* verilator public_flat_rd */,
    output logic [63:0] result /* verilator public_flat_rd */
);
    localparam logic [7:0] RESET = 0, LOAD = 1, CONFIGURE = 2, WRITE = 3, READ = 4, WAIT = 5, DUMP = 6, VIOLATIONS = 7;
    localparam int SETTINGS = 8;
    localparam int RESET_CYCLES = 4;

    typedef enum logic [2:0] {IDLE, RESETTING, STROBE, WRITING, READING, WAITING} state_t;
    state_t state = IDLE;
    logic rst = 1, load = 0, dump = 0;
    logic [63:0] elapsed = 0;
    logic [31:0] settings [0:SETTINGS-1];
    wire [31:0] violations, written_first, written_end;

    logic [11:0] s_axil_awaddr = 0, s_axil_araddr = 0;
    logic [31:0] s_axil_wdata = 0;
    wire [3:0] s_axil_wstrb = '1;
    logic s_axil_awvalid = 0, s_axil_wvalid = 0, s_axil_arvalid = 0;
    wire s_axil_awready, s_axil_wready, s_axil_bvalid, s_axil_arready, s_axil_rvalid;
    wire [1:0] s_axil_bresp, s_axil_rresp;
    wire [31:0] s_axil_rdata;
    logic s_axil_bready = 0, s_axil_rready = 0;
    wire irq, busy, done;

    wire m_axi_arvalid, m_axi_arready, m_axi_rvalid, m_axi_rready, m_axi_rlast;
    wire m_axi_awvalid, m_axi_awready, m_axi_wvalid, m_axi_wready, m_axi_wlast, m_axi_bvalid, m_axi_bready;
    wire [31:0] m_axi_araddr, m_axi_awaddr;
    wire [7:0] m_axi_arlen, m_axi_awlen;
    wire [2:0] m_axi_arsize, m_axi_awsize;
    wire [1:0] m_axi_arburst, m_axi_awburst, m_axi_rresp, m_axi_bresp;
    wire [8*BYTES-1:0] m_axi_rdata, m_axi_wdata;
    wire [BYTES-1:0] m_axi_wstrb;

    `CORE core (.*);

    axi_memory #(.BYTES(BYTES), .CAPACITY(CAPACITY)) memory (
        .clk, .rst, .busy, .load, .dump, .file_number(first), .violations, .written_first, .written_end,
        .image_bytes(settings[0]), .read_latency(settings[1]), .read_interval(settings[2]),
        .write_latency(settings[3]), .write_interval(settings[4]), .stall_seed(settings[5]),
        .error_first(settings[6]), .error_last(settings[7]),
        .arvalid(m_axi_arvalid), .arready(m_axi_arready), .araddr(m_axi_araddr), .arlen(m_axi_arlen),
        .arsize(m_axi_arsize), .arburst(m_axi_arburst),
        .rvalid(m_axi_rvalid), .rready(m_axi_rready), .rdata(m_axi_rdata), .rresp(m_axi_rresp), .rlast(m_axi_rlast),
        .awvalid(m_axi_awvalid), .awready(m_axi_awready), .awaddr(m_axi_awaddr), .awlen(m_axi_awlen),
        .awsize(m_axi_awsize), .awburst(m_axi_awburst),
        .wvalid(m_axi_wvalid), .wready(m_axi_wready), .wdata(m_axi_wdata), .wstrb(m_axi_wstrb), .wlast(m_axi_wlast),
        .bvalid(m_axi_bvalid), .bready(m_axi_bready), .bresp(m_axi_bresp));

    task automatic answer(input logic [63:0] value);
        result <= value;
        reply <= request;
        state <= IDLE;
    endtask

    task automatic begin_write;
        s_axil_awaddr <= first[11:0];
        s_axil_wdata <= second[31:0];
        {s_axil_awvalid, s_axil_wvalid, s_axil_bready} <= '1;
        state <= WRITING;
    endtask

    task automatic begin_read;
        s_axil_araddr <= first[11:0];
        {s_axil_arvalid, s_axil_rready} <= '1;
        state <= READING;
    endtask

    task automatic begin_operation;
        elapsed <= 0;
        case (operation)
            RESET: begin
                rst <= 1;
                state <= RESETTING;
            end
            LOAD, DUMP: begin
                load <= operation == LOAD;
                dump <= operation == DUMP;
                state <= STROBE;
            end
            CONFIGURE: begin
                settings[first[2:0]] <= second[31:0];
                answer(0);
            end
            WRITE: begin_write();
            READ: begin_read();
            WAIT: state <= WAITING;
            VIOLATIONS: answer(64'(violations));
            default: $fatal(1, "operation %0d is unknown", operation);
        endcase
    endtask

    task automatic end_strobe;
        load <= 0;
        dump <= 0;
        if (elapsed == 1) answer({written_end, written_first});
    endtask

    task automatic continue_write;
        if (s_axil_awready) s_axil_awvalid <= 0;
        if (s_axil_wready) s_axil_wvalid <= 0;
        if (s_axil_bvalid) begin
            s_axil_bready <= 0;
            answer(64'(s_axil_bresp));
        end
    endtask

    task automatic continue_read;
        if (s_axil_arready) s_axil_arvalid <= 0;
        if (s_axil_rvalid) begin
            s_axil_rready <= 0;
            answer({30'(0), s_axil_rresp, s_axil_rdata});
        end
    endtask

    always_ff @(posedge clk) begin
        elapsed <= elapsed + 1;
        case (state)
            IDLE: if (request != reply) begin_operation();
            RESETTING: if (elapsed == RESET_CYCLES) begin
                rst <= 0;
                answer(0);
            end
            STROBE: end_strobe();
            WRITING: continue_write();
            READING: continue_read();
            WAITING: if (irq || elapsed >= first) answer({elapsed[62:0], irq});
            default: state <= IDLE;
        endcase
    end

    initial begin
        reply = 0;
        for (int i = 0; i < SETTINGS; i++) settings[i] = 1;
    end
endmodule
`default_nettype wire
