// Runs one function of archsim/arithmetic.hpp a line: its name and its integers in, its result's integers out.
#include <iostream>
#include <string>

#include "archsim/arithmetic.hpp"

int main() {
    archsim::i16 table[256];
    for (int i = 0; i < 256; ++i) table[i] = archsim::i16(i * 257 - 32768);
    std::string name;
    long long a = 0, b = 0, c = 0;
    while (std::cin >> name >> a >> b >> c) {
        if (name == "reciprocal" || name == "reciprocal_root") {
            const archsim::RowScale row =
                name == "reciprocal" ? archsim::reciprocal(archsim::i40(a)) : archsim::reciprocal_root(archsim::i64(a));
            std::cout << row.mantissa.to_int() << " " << row.exponent.to_int() << "\n";
            continue;
        }
        archsim::i16 result = 0;
        if (name == "affine0") result = archsim::affine<0>(archsim::i32(a), archsim::i16(b), archsim::i45(c));
        if (name == "affine17") result = archsim::affine<17>(archsim::i32(a), archsim::i16(b), archsim::i45(c));
        if (name == "affine63") result = archsim::affine<63>(archsim::i32(a), archsim::i16(b), archsim::i45(c));
        if (name == "shift_left") result = archsim::shift_left(archsim::i8(a), archsim::u3(b));
        if (name == "add14") {
            result = archsim::add_residual<-32768, 14>(archsim::i16(a), archsim::shift_left(archsim::i8(b), archsim::u3(c)));
        }
        if (name == "add30") {
            result = archsim::add_residual<-32768, 30>(archsim::i16(a), archsim::shift_left(archsim::i8(b), archsim::u3(c)));
        }
        if (name == "multiply0") {
            result = archsim::multiply_residual<0>(archsim::i16(a), archsim::shift_left(archsim::i8(b), archsim::u3(c)));
        }
        if (name == "multiply15") {
            result = archsim::multiply_residual<15>(archsim::i16(a), archsim::shift_left(archsim::i8(b), archsim::u3(c)));
        }
        if (name == "lookup") result = archsim::lookup(archsim::i16(a), table);
        if (name == "exp_lookup") result = archsim::exp_lookup(archsim::i40(a), archsim::i16(b), table);
        if (name == "scale") {
            const archsim::RowScale row{ap_uint<16>(b), ap_uint<6>(c)};
            result = archsim::scale(archsim::i16(a), row);
        }
        std::cout << result.to_int() << "\n";
    }
    return 0;
}
