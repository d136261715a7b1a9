// Main program of a compiled test bench: owns the clock, so that no callback runs in a cycle unless
// the mailbox of harness.sv has an answer. With --play DIR --jobs N it plays the files of operations in DIR
// itself; without, cocotb does.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "Vtop.h"
#include "verilated.h"
#include "verilated_vpi.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#elif VM_TRACE
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif

extern "C" void vlog_startup_routines_bootstrap(void);

namespace {

constexpr uint64_t kHalfPeriod = 5;
uint64_t now = 0;

class Bench {
  public:
    explicit Bench(const char* trace_path) : top_{new Vtop{""}} {
        top_->clk = 0;
        top_->request = 0;
        top_->eval();
#if VM_TRACE
        if (!trace_path) return;
        Verilated::traceEverOn(true);
        trace_.reset(new Trace);
        top_->trace(trace_.get(), 99);
        trace_->open(trace_path);
#endif
    }

    ~Bench() {
        top_->final();
#if VM_TRACE
        if (trace_) trace_->close();
#endif
    }

    Vtop& top() { return *top_; }
    bool waiting() const { return top_->request != top_->reply && !Verilated::gotFinish(); }

    void cycle() {
        half(1);
        half(0);
    }

  private:
    void half(int level) {
        now += kHalfPeriod;
        top_->clk = level;
        top_->eval();
#if VM_TRACE
        if (trace_) trace_->dump(now);
#endif
    }

    std::unique_ptr<Vtop> top_;
#if VM_TRACE
    std::unique_ptr<Trace> trace_;
#endif
};

uint64_t nanoseconds() {
    using namespace std::chrono;
    return duration_cast<std::chrono::nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

// Steps are lines "operation first second"; answers are lines "result nanoseconds".
int play(Bench& bench, const std::string& stem) {
    FILE* steps = std::fopen((stem + ".script").c_str(), "r");
    FILE* answers = std::fopen((stem + ".answers").c_str(), "w");
    if (!steps || !answers) return 2;
    unsigned operation;
    unsigned long long first, second;
    Vtop& top = bench.top();
    while (std::fscanf(steps, "%u %llu %llu", &operation, &first, &second) == 3) {
        top.operation = operation;
        top.first = first;
        top.second = second;
        top.request = !top.request;
        const uint64_t begin = nanoseconds();
        while (bench.waiting()) bench.cycle();
        std::fprintf(answers, "%llu %llu\n", static_cast<unsigned long long>(top.result),
                     static_cast<unsigned long long>(nanoseconds() - begin));
        if (Verilated::gotFinish()) return 3;
    }
    std::fclose(steps);
    std::fclose(answers);
    return 0;
}

int play_all(Bench& bench, const std::string& folder, int jobs) {
    for (int job = 0; job < jobs; job++)
        if (int status = play(bench, folder + "/" + std::to_string(job))) return status;
    return 0;
}

void settle(Bench& bench) {
    while (VerilatedVpi::callValueCbs()) {}
    do {
        do {
            bench.top().eval();
            VerilatedVpi::clearEvalNeeded();
            VerilatedVpi::doInertialPuts();
            while (VerilatedVpi::callValueCbs()) {}
        } while (VerilatedVpi::evalNeeded());
        VerilatedVpi::callCbs(cbReadWriteSynch);
        VerilatedVpi::doInertialPuts();
        while (VerilatedVpi::callValueCbs()) {}
    } while (VerilatedVpi::evalNeeded());
    VerilatedVpi::callCbs(cbReadOnlySynch);
}

int converse(Bench& bench) {
    vlog_startup_routines_bootstrap();
    VerilatedVpi::callCbs(cbStartOfSimulation);
    settle(bench);
    while (!Verilated::gotFinish()) {
        // A timer of the test's own is due after the operation in progress at the earliest.
        do bench.cycle();
        while (bench.waiting());
        VerilatedVpi::callCbs(cbNextSimTime);
        VerilatedVpi::callTimedCbs();
        settle(bench);
    }
    VerilatedVpi::callCbs(cbEndOfSimulation);
    return 0;
}

const char* option(int argc, char** argv, const char* name) {
    for (int i = 1; i + 1 < argc; i++)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return nullptr;
}

}  // namespace

double sc_time_stamp() { return now; }

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    Verilated::fatalOnVpiError(false);
#if VM_TRACE
    Verilated::traceEverOn(true);
#endif
    const char* folder = option(argc, argv, "--play");
    const char* jobs = option(argc, argv, "--jobs");
    Bench bench{option(argc, argv, "--waves")};
    return folder && jobs ? play_all(bench, folder, std::atoi(jobs)) : converse(bench);
}
