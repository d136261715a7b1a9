// Movement between row-major matrices in memory and the streams of words around the array.
// Lanes past a matrix's edge are zero on the way in and dropped on the way out.
#pragma once

#include <hls_stream.h>

#include "archsim/types.hpp"

namespace archsim {

// X[rows, depth] as words of lanes_in, once for every column panel.
template <class Shape>
void load_streamed(const i8* x, hls::stream<typename Shape::Streamed>& words) {
    for (int block = 0; block < Shape::blocks; ++block) {
        for (int repeat = 0; repeat < Shape::column_panels; ++repeat) {
            for (int panel = 0; panel < Shape::depth_panels; ++panel) {
                for (int row = 0; row < Shape::rows_of(block); ++row) {
#pragma HLS pipeline II=1
                    typename Shape::Streamed word;
                    for (int lane = 0; lane < Shape::lanes_in; ++lane) {
#pragma HLS unroll
                        const int k = panel * Shape::lanes_in + lane;
                        const int m = block * Shape::block + row;
                        word[lane] = k < Shape::depth ? x[m * Shape::depth + k] : i8(0);
                    }
                    words.write(word);
                }
            }
        }
    }
}

// W[depth, columns], or its transpose W[columns, depth], as tiles of lanes_in words, once for every block.
template <class Shape, bool Transposed>
void load_stationary(const i8* w, hls::stream<typename Shape::Stationary>& words) {
    for (int block = 0; block < Shape::blocks; ++block) {
        for (int column = 0; column < Shape::column_panels; ++column) {
            for (int k = 0; k < Shape::depth_panels * Shape::lanes_in; ++k) {
#pragma HLS pipeline II=1
                typename Shape::Stationary word;
                for (int lane = 0; lane < Shape::lanes_out; ++lane) {
#pragma HLS unroll
                    const int n = column * Shape::lanes_out + lane;
                    const int index = Transposed ? n * Shape::depth + k : k * Shape::columns + n;
                    word[lane] = k < Shape::depth && n < Shape::columns ? w[index] : i8(0);
                }
                words.write(word);
            }
        }
    }
}

// A matrix[rows, columns] in the order of the product's results.
template <class Shape, class Element>
void load_results(const Element* matrix, hls::stream<Lanes<Element, Shape::lanes_out>>& words) {
    for (int block = 0; block < Shape::blocks; ++block) {
        for (int panel = 0; panel < Shape::column_panels; ++panel) {
            for (int row = 0; row < Shape::rows_of(block); ++row) {
#pragma HLS pipeline II=1
                Lanes<Element, Shape::lanes_out> word;
                for (int lane = 0; lane < Shape::lanes_out; ++lane) {
#pragma HLS unroll
                    const int n = panel * Shape::lanes_out + lane;
                    const int m = block * Shape::block + row;
                    word[lane] = n < Shape::columns ? matrix[m * Shape::columns + n] : Element(0);
                }
                words.write(word);
            }
        }
    }
}

// The product's results into y[rows, columns].
template <class Shape>
void store_results(hls::stream<typename Shape::Narrow>& words, i8* y) {
    for (int block = 0; block < Shape::blocks; ++block) {
        for (int panel = 0; panel < Shape::column_panels; ++panel) {
            for (int row = 0; row < Shape::rows_of(block); ++row) {
#pragma HLS pipeline II=1
                const typename Shape::Narrow word = words.read();
                for (int lane = 0; lane < Shape::lanes_out; ++lane) {
#pragma HLS unroll
                    const int n = panel * Shape::lanes_out + lane;
                    const int m = block * Shape::block + row;
                    if (n < Shape::columns) y[m * Shape::columns + n] = word[lane];
                }
            }
        }
    }
}

// One parameter per column into a local memory of whole panels; the padding is zero.
template <int Count, int Padded, class From, class To>
void load_parameters(const From* source, To (&local)[Padded]) {
    for (int i = 0; i < Padded; ++i) {
#pragma HLS pipeline II=1
        local[i] = i < Count ? To(source[i]) : To(0);
    }
}

// A function table, one copy for each lane, so that all lanes look up in one cycle.
template <int Copies>
void load_table(const i16* source, i16 (&local)[Copies][256]) {
    for (int i = 0; i < 256; ++i) {
#pragma HLS pipeline II=1
        const i16 entry = source[i];
        for (int copy = 0; copy < Copies; ++copy) {
#pragma HLS unroll
            local[copy][i] = entry;
        }
    }
}

}  // namespace archsim
