// A board in simulation: bytes from standard input become frames on the serial pin, and frames from
// the other pin become bytes on standard output. Argument 1 is the length of a bit in clock cycles.
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <unistd.h>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr int kFrameBits = 10;
constexpr int kPollCycles = 256;
constexpr unsigned long kQuietCycles = 1024;  // the board is in reset at first, and hears nothing

// Puts bytes on a line: a start bit, eight data bits from the lowest, a stop bit.
class Sender {
  public:
    explicit Sender(int bit_cycles) : bit_cycles_(bit_cycles) {}
    bool idle() const { return left_ == 0; }
    void begin(unsigned char byte) {
        frame_ = (static_cast<unsigned>(byte) << 1) | 0x200U;
        left_ = kFrameBits * bit_cycles_;
    }
    bool tick() {
        if (left_ == 0) return true;
        const int bit = kFrameBits - 1 - (left_ - 1) / bit_cycles_;
        --left_;
        return (frame_ >> bit) & 1U;
    }

  private:
    int bit_cycles_;
    int left_ = 0;
    unsigned frame_ = 0;
};

// Takes bytes from a line, each bit in its middle; false as a byte's answer means none is complete.
class Receiver {
  public:
    explicit Receiver(int bit_cycles) : bit_cycles_(bit_cycles) {}
    bool tick(bool line, unsigned char *byte) {
        if (bit_ < 0) {
            if (!line) {
                bit_ = 0;
                wait_ = bit_cycles_ / 2;
            }
            return false;
        }
        if (--wait_ > 0) return false;
        wait_ = bit_cycles_;
        if (bit_ > 0 && bit_ < kFrameBits - 1) value_ = (value_ >> 1) | (line ? 0x80U : 0U);
        if (bit_++ < kFrameBits - 1) return false;
        bit_ = -1;
        *byte = static_cast<unsigned char>(value_);
        return line;
    }

  private:
    int bit_cycles_;
    int bit_ = -1, wait_ = 0;
    unsigned value_ = 0;
};

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    const int bit_cycles = std::atoi(argv[1]);
    Vtop top;
    Sender to_board(bit_cycles);
    Receiver from_board(bit_cycles);
    pollfd input{STDIN_FILENO, POLLIN, 0};
    unsigned char waiting[4096];
    ssize_t next = 0, held = 0;
    top.uart_rx = 1;
    for (unsigned long cycle = 0;; ++cycle) {
        top.clk = 0;
        top.eval();
        if (next == held && cycle % kPollCycles == 0 && poll(&input, 1, 0) > 0) {
            next = 0;
            held = read(STDIN_FILENO, waiting, sizeof waiting);
            if (held <= 0) break;
        }
        if (cycle > kQuietCycles && to_board.idle() && next < held) to_board.begin(waiting[next++]);
        top.uart_rx = to_board.tick();
        top.clk = 1;
        top.eval();
        unsigned char byte = 0;
        if (from_board.tick(top.uart_tx, &byte)) {
            std::putchar(byte);
            std::fflush(stdout);
        }
    }
    return 0;
}
