// The tiled matrix product: a lanes_in x lanes_out array of multiply-accumulators, weight-stationary.
#pragma once

#include <hls_stream.h>

#include "archsim/types.hpp"

namespace archsim {

namespace detail {

template <class Shape>
void load_tile(hls::stream<typename Shape::Stationary>& words, i8 (&tile)[Shape::lanes_in][Shape::lanes_out]) {
#pragma HLS inline
    for (int lane = 0; lane < Shape::lanes_in; ++lane) {
#pragma HLS pipeline II=1
        const typename Shape::Stationary word = words.read();
        for (int column = 0; column < Shape::lanes_out; ++column) {
#pragma HLS unroll
            tile[lane][column] = word[column];
        }
    }
}

// One streamed word against the tile: every multiplier works once.
template <class Shape>
typename Shape::Sums multiply_accumulate(const typename Shape::Streamed& word, const typename Shape::Sums& before,
                                         const i8 (&tile)[Shape::lanes_in][Shape::lanes_out]) {
#pragma HLS inline
    typename Shape::Sums after;
    for (int column = 0; column < Shape::lanes_out; ++column) {
#pragma HLS unroll
        i32 sum = before[column];
        for (int lane = 0; lane < Shape::lanes_in; ++lane) {
#pragma HLS unroll
            sum += word[lane] * tile[lane][column];
        }
        after[column] = sum;
    }
    return after;
}

template <int Count>
Lanes<i32, Count> zero_sums() {
#pragma HLS inline
    Lanes<i32, Count> zero;
    for (int lane = 0; lane < Count; ++lane) {
#pragma HLS unroll
        zero[lane] = i32(0);
    }
    return zero;
}

}  // namespace detail

// sums[m, n] = sum over k of x[m, k] * w[k, n], in int32.
template <class Shape>
void matmul(hls::stream<typename Shape::Streamed>& streamed, hls::stream<typename Shape::Stationary>& stationary,
            hls::stream<typename Shape::Sums>& sums) {
    i8 tile[Shape::lanes_in][Shape::lanes_out];
#pragma HLS array_partition variable=tile type=complete dim=0
    typename Shape::Sums accumulators[Shape::block];
#pragma HLS aggregate variable=accumulators
    for (int block = 0; block < Shape::blocks; ++block) {
        for (int column = 0; column < Shape::column_panels; ++column) {
            for (int panel = 0; panel < Shape::depth_panels; ++panel) {
                detail::load_tile<Shape>(stationary, tile);
                for (int row = 0; row < Shape::rows_of(block); ++row) {
#pragma HLS pipeline II=1
                    const typename Shape::Sums before =
                        panel == 0 ? detail::zero_sums<Shape::lanes_out>() : accumulators[row];
                    const typename Shape::Sums after =
                        detail::multiply_accumulate<Shape>(streamed.read(), before, tile);
                    accumulators[row] = after;
                    if (panel == Shape::depth_panels - 1) sums.write(after);
                }
            }
        }
    }
}

}  // namespace archsim
