// Integer softmax: maximum, exponential by table and shift, sum, reciprocal, scale to seven bits.
#pragma once

#include <hls_stream.h>

#include "archsim/arithmetic.hpp"
#include "archsim/memory.hpp"
#include "archsim/types.hpp"

namespace archsim {

namespace detail {

// Scores of a block into the buffer, and each row's maximum.
template <class Scores>
void gather_scores(hls::stream<typename Scores::Wide>& scores, int rows,
                   i16 (&buffer)[Scores::block][Scores::padded_columns], i16 (&maximum)[Scores::block]) {
    for (int panel = 0; panel < Scores::column_panels; ++panel) {
        for (int row = 0; row < rows; ++row) {
#pragma HLS pipeline II=1
            const typename Scores::Wide word = scores.read();
            i16 top = panel == 0 ? word[0] : maximum[row];
            for (int lane = 0; lane < Scores::lanes_out; ++lane) {
#pragma HLS unroll
                const int column = panel * Scores::lanes_out + lane;
                buffer[row][column] = word[lane];
                if (column < Scores::columns && word[lane] > top) top = word[lane];
            }
            maximum[row] = top;
        }
    }
}

// Scores to exponentials in place, and each row's reciprocal sum.
template <class Scores>
RowScale exponentials(i16 (&row)[Scores::padded_columns], i16 maximum, const i16 (&tables)[Scores::lanes_out][256]) {
    i40 sum = 0;
    for (int panel = 0; panel < Scores::column_panels; ++panel) {
#pragma HLS pipeline II=1
        for (int lane = 0; lane < Scores::lanes_out; ++lane) {
#pragma HLS unroll
            const int column = panel * Scores::lanes_out + lane;
            const i16 value = exp_lookup(maximum, row[column], tables[lane]);
            row[column] = value;
            if (column < Scores::columns) sum += value;
        }
    }
    return reciprocal(sum);
}

// Scaled exponentials as the streamed operand of the product with the values, once for every panel of it.
template <class Scores, class Values>
void send_probabilities(const i16 (&buffer)[Scores::block][Scores::padded_columns],
                        const RowScale (&scales)[Scores::block], int rows,
                        hls::stream<typename Values::Streamed>& words) {
    for (int repeat = 0; repeat < Values::column_panels; ++repeat) {
        for (int panel = 0; panel < Values::depth_panels; ++panel) {
            for (int row = 0; row < rows; ++row) {
#pragma HLS pipeline II=1
                typename Values::Streamed word;
                for (int lane = 0; lane < Values::lanes_in; ++lane) {
#pragma HLS unroll
                    const int key = panel * Values::lanes_in + lane;
                    word[lane] = key < Values::depth ? sat8(scale(buffer[row][key], scales[row])) : i8(0);
                }
                words.write(word);
            }
        }
    }
}

}  // namespace detail

// The scores' rows, block by block, into probabilities of 2^7 = one.
template <class Scores, class Values>
void softmax(hls::stream<typename Scores::Wide>& scores, const i16* table,
             hls::stream<typename Values::Streamed>& words) {
    static_assert(Scores::columns == Values::depth && Scores::block == Values::block, "the products do not meet");
    i16 tables[Scores::lanes_out][256];
#pragma HLS array_partition variable=tables type=complete dim=1
    i16 buffer[Scores::block][Scores::padded_columns];
#pragma HLS array_partition variable=buffer type=cyclic factor=Scores::lanes_out dim=2
    i16 maximum[Scores::block];
    RowScale scales[Scores::block];
    load_table(table, tables);
    for (int block = 0; block < Scores::blocks; ++block) {
        const int rows = Scores::rows_of(block);
        detail::gather_scores<Scores>(scores, rows, buffer, maximum);
        for (int row = 0; row < rows; ++row) {
            scales[row] = detail::exponentials<Scores>(buffer[row], maximum[row], tables);
        }
        detail::send_probabilities<Scores, Values>(buffer, scales, rows, words);
    }
}

}  // namespace archsim
