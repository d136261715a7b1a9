// Integer LayerNorm (Centred) and RMSNorm: moments, reciprocal square root, normalised rows.
#pragma once

#include <hls_stream.h>

#include "archsim/arithmetic.hpp"
#include "archsim/types.hpp"

namespace archsim {

// What a row's moments come to.
struct RowRecord {
    i40 offset;
    RowScale scaling;
};

namespace detail {

// Values of a block into the buffer, and each row's sum and sum of squares.
template <class Shape>
void gather_moments(hls::stream<typename Shape::Wide>& values, int rows,
                    typename Shape::Wide (&buffer)[Shape::block][Shape::column_panels], i40 (&sums)[Shape::block],
                    i48 (&squares)[Shape::block]) {
    for (int panel = 0; panel < Shape::column_panels; ++panel) {
        for (int row = 0; row < rows; ++row) {
#pragma HLS pipeline II=1
            const typename Shape::Wide word = values.read();
            i40 sum = panel == 0 ? i40(0) : sums[row];
            i48 square = panel == 0 ? i48(0) : squares[row];
            for (int lane = 0; lane < Shape::lanes_out; ++lane) {
#pragma HLS unroll
                if (panel * Shape::lanes_out + lane < Shape::columns) {
                    sum += word[lane];
                    square += word[lane] * word[lane];
                }
            }
            buffer[row][panel] = word;
            sums[row] = sum;
            squares[row] = square;
        }
    }
}

template <class Shape, bool Centred>
RowRecord row_record(i40 sum, i48 squares) {
#pragma HLS inline
    const i40 offset = Centred ? sum : i40(0);
    const i64 moment = squares * ap_uint<16>(Shape::columns);
    return RowRecord{offset, reciprocal_root(i64(moment - offset * offset))};
}

}  // namespace detail

// Each row less its mean, over its deviation, in units of 2^-10; without the mean if not Centred.
template <class Shape, bool Centred>
void normalise_rows(hls::stream<typename Shape::Wide>& values, hls::stream<typename Shape::Wide>& results) {
    typename Shape::Wide buffer[Shape::block][Shape::column_panels];
#pragma HLS aggregate variable=buffer
    i40 sums[Shape::block];
    i48 squares[Shape::block];
    RowRecord records[Shape::block];
    for (int block = 0; block < Shape::blocks; ++block) {
        const int rows = Shape::rows_of(block);
        detail::gather_moments<Shape>(values, rows, buffer, sums, squares);
        for (int row = 0; row < rows; ++row) {
#pragma HLS pipeline
            records[row] = detail::row_record<Shape, Centred>(sums[row], squares[row]);
        }
        for (int panel = 0; panel < Shape::column_panels; ++panel) {
            for (int row = 0; row < rows; ++row) {
#pragma HLS pipeline II=1
                typename Shape::Wide result;
                for (int lane = 0; lane < Shape::lanes_out; ++lane) {
#pragma HLS unroll
                    const RowRecord record = records[row];
                    result[lane] =
                        normalise<Shape::columns>(buffer[row][panel][lane], record.offset, record.scaling);
                }
                results.write(result);
            }
        }
    }
}

}  // namespace archsim
