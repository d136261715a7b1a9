// What a testbench needs besides the kernel: tensors from files, and a comparison that names the first difference.
// Files are row-major, little endian, without a header; testbench [FOLDER [OUTPUT_FOLDER]].
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace archsim {
namespace testbench {

inline std::string folder(int argc, char** argv) { return argc > 1 ? argv[1] : "data"; }

template <class Stored, class Element>
std::vector<Element> read(const std::string& folder, const std::string& name, std::size_t count) {
    std::string path = folder + "/" + name + ".bin";
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        // The vendor's simulator may put a testbench's files beside it, without their folder.
        path = name + ".bin";
        file.open(path, std::ios::binary);
    }
    if (!file) throw std::runtime_error("cannot read " + path + ", neither in " + folder + " nor here");
    std::vector<Element> tensor(count);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint64_t bits = 0;
        for (std::size_t byte = 0; byte < sizeof(Stored); ++byte) {
            const int next = file.get();
            if (!file) throw std::runtime_error(path + " is shorter than " + std::to_string(count) + " elements");
            bits |= static_cast<std::uint64_t>(next) << (8 * byte);
        }
        tensor[i] = static_cast<Stored>(bits);
    }
    if (file.get() != std::ifstream::traits_type::eof()) {
        throw std::runtime_error(path + " is longer than " + std::to_string(count) + " elements");
    }
    return tensor;
}

template <class Element>
void write(const std::string& folder, const std::string& name, const std::vector<Element>& tensor) {
    std::ofstream file(folder + "/" + name + ".bin", std::ios::binary);
    for (const Element& element : tensor) file.put(static_cast<char>(element.to_int() & 255));
    if (!file) throw std::runtime_error("cannot write " + name + " to " + folder);
}

// Zero when equal, else one, having printed the first difference; writes the tensor if an output folder is named.
template <class Element>
int check(int argc, char** argv, const std::string& name, std::size_t columns, const std::vector<Element>& got,
          const std::vector<Element>& expected) {
    if (argc > 2) write(argv[2], name, got);
    std::size_t first = got.size();
    std::size_t mismatches = 0;
    for (std::size_t i = got.size(); i-- > 0;) {
        if (got[i] == expected[i]) continue;
        first = i;
        ++mismatches;
    }
    if (mismatches == 0) {
        std::cout << name << ": " << got.size() << " elements equal\n";
        return 0;
    }
    std::cout << name << "[" << first / columns << ", " << first % columns << "]: expected "
              << expected[first].to_int() << ", got " << got[first].to_int() << "; " << mismatches << " of "
              << got.size() << " elements differ\n";
    return 1;
}

}  // namespace testbench
}  // namespace archsim
