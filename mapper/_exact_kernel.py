"""The compiled part of the exact search: states of partial mappings, extended, bounded and thinned.

A state is a mapping's inner part: the tile (one candidate for each rank) that it covers, and what it
costs. ``stack`` puts the holders of one level around it, ``spread`` the loops of one spatial dimension.
Columns of a state's costs, ``L`` levels and ``t`` tensors:

    0 energy   1 array cycles   2 bits held   3.. bits moved by each level (an instance)
    3+L.. elements that each tensor will ask of its parent, where lanes still to come share them
    3+L+t  energy, and 4+L+t.. bits, that first visits save, once for each lane still to come
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit

from mapper._exact_arrays import Bools, Floats, Goal, Holders, Ints, Outlook, Side, States, Tables

_F = TypeVar("_F", bound=Callable[..., object])


def _jit(function: _F) -> _F:
    """Numba's ``njit`` with the type that the function has."""
    return cast("_F", njit(cache=True)(function))


SLACK = 1e-11
"""Relative rounding of two sums of the same terms in another order."""


@_jit
def tile_elements(tensor: int, vec: Ints, tables: Tables) -> float:
    """Elements of a tensor's tile."""
    dim_start, term_start, term_rank = tables.dim_start, tables.term_start, tables.term_rank
    elements = 1.0
    for dim in range(dim_start[tensor], dim_start[tensor + 1]):
        span, count = 1, 1
        for term in range(term_start[dim], term_start[dim + 1]):
            tile = tables.tiles[term_rank[term], vec[term_rank[term]]]
            span += tables.term_factor[term] * (tile - 1)
            count *= tile
        elements *= min(span, count, tables.dim_clip[dim])
    return elements


@_jit
def moved_elements(tensor: int, vec: Ints, tables: Tables) -> float:
    """Elements of all of a tensor's tiles together, the last of each rank smaller."""
    sizes, tiles, dim_clip = tables.sizes, tables.tiles, tables.dim_clip
    dim_start, term_start, term_rank = tables.dim_start, tables.term_start, tables.term_rank
    total = 1.0
    for dim in range(dim_start[tensor], dim_start[tensor + 1]):
        first, last = term_start[dim], term_start[dim + 1]
        if last == first + 1 and dim_clip[dim] >= sizes[term_rank[first]]:
            total *= sizes[term_rank[first]]
            continue
        elements = 0.0
        for cut in range(1 << (last - first)):
            span, count, times = 1, 1, 1
            for term in range(first, last):
                size, tile = sizes[term_rank[term]], tiles[term_rank[term], vec[term_rank[term]]]
                if cut >> (term - first) & 1:
                    times *= 1 if size % tile else 0
                    tile = size % tile
                else:
                    times *= size // tile
                if times == 0:
                    break
                span += tables.term_factor[term] * (tile - 1)
                count *= tile
            if times:
                elements += times * min(span, count, dim_clip[dim])
        total *= elements
    return total


@_jit
def settle(row: Floats, tensor: int, levels: int, place: Floats) -> None:
    """Charge a tensor's parent for what its child asks; ``place`` has the parent's rates."""
    pending = 3 + levels + tensor
    parent = int(place[tensor, 0])
    credit = 3 + levels + place.shape[0]
    row[0] += row[pending] * place[tensor, 1] - place[tensor, 3]
    row[3 + parent] += row[pending] * place[tensor, 2] - place[tensor, 4]
    row[credit] += place[tensor, 3]
    row[credit + 1 + parent] += place[tensor, 4]
    row[pending] = 0.0


@_jit
def bound(row: Floats, out: Floats, tables: Tables, outlook: Outlook, relaxed: bool) -> None:
    """Lower bounds of latency, energy, EDP, traffic and bits held over every completion of a state."""
    place, least, lanes, level_lanes = outlook.place, tables.least, outlook.lanes, outlook.level_lanes
    future = outlook.future
    levels, tensors = level_lanes.shape[0], place.shape[0]
    credit = 3 + levels + tensors
    energy = row[0] + future[0] - row[credit] * (lanes - 1.0)
    latency = max(row[1] / lanes, outlook.floor)
    traffic = 0.0
    for level in range(levels):
        bits = max(0.0, row[3 + level] - row[credit + 1 + level] * (lanes - 1.0)) / lanes
        bits += future[1 + level]
        for tensor in range(tensors):
            if row[3 + levels + tensor] > 0.0 and int(place[tensor, 0]) == level:
                asked = max(row[3 + levels + tensor] / lanes, least[tensor])
                saved = min(place[tensor, 4] * level_lanes[level], asked * place[tensor, 2] * 0.5)
                bits += (asked * place[tensor, 2] - saved) / level_lanes[level]
                spared = place[tensor, 3] * level_lanes[level]
                if spared > 0.0:
                    spared = min(spared, asked * place[tensor, 3] / least[tensor])
                energy += asked * place[tensor, 1] - spared
        if not relaxed:
            latency = max(latency, bits * outlook.inverse[level])
        if level == 0:
            traffic = bits
    out[0] = latency
    out[1] = energy
    out[2] = latency * energy
    out[3] = traffic
    out[4] = row[2]


@_jit
def beaten(out: Floats, goal: Goal) -> bool:
    """Whether no completion can improve on what was found: every bound reaches a known point."""
    metrics, best = goal.metrics, goal.best
    for point in range(best.shape[0]):
        worse = True
        for position in range(metrics.shape[0]):
            value, known = out[metrics[position]], best[point, position]
            if goal.lexicographic and value > known * (1.0 + SLACK):
                return True
            if value < known * (1.0 - SLACK):
                worse = False
                break
        if worse:
            return True
    return False


@_jit
def keep(out: Floats, goal: Goal) -> None:
    """Record a complete mapping as the one to beat."""
    for position in range(goal.metrics.shape[0]):
        goal.best[0, position] = out[goal.metrics[position]]


@_jit
def missed(out: Floats, peek: Floats, metrics: Ints, tally: Floats) -> None:
    """Note the best value that ignoring bandwidth promised and bandwidth did not allow."""
    for position in range(metrics.shape[0]):
        if peek[metrics[position]] > out[metrics[position]] * (1.0 + SLACK):
            first, second = out[metrics[0]], out[metrics[metrics.shape[0] - 1]]
            if first < tally[1] or (first == tally[1] and second < tally[2]):
                tally[1], tally[2] = first, second
            return


@_jit
def improves(
    now: Floats, low: Floats, peek: Floats, tables: Tables, outlook: Outlook, goal: Goal, tally: Floats
) -> bool:
    """Whether a complete mapping betters what was found, and if so, that it is now what was found.

    Where bandwidth was left out of its values ``low``, those with it are put there.
    """
    if goal.relaxed:
        bound(now, peek, tables, outlook, False)
        missed(low, peek, goal.metrics, tally)
        if beaten(peek, goal):
            return False
        low[:] = peek
    keep(low, goal)
    return True


@_jit
def write(out: States, number: int, state: int, vec: Ints, row: Floats, bounds: Floats) -> None:
    """State ``number`` of ``out``, made from ``state``."""
    out.idx[number, :] = vec
    out.row[number, :] = row
    out.back[number] = state
    out.bounds[number, :] = bounds


@_jit
def room_taken(number: int, vec: Ints, holders: Holders, tables: Tables) -> float:
    """Bits of the tiles of holder ``number`` and of all further out, were they at tile ``vec``."""
    size = 0.0
    for later in range(number, holders.order.shape[0]):
        size += holders.width[holders.order[later]] * tile_elements(holders.order[later], vec, tables)
    return size


@_jit
def charge(now: Floats, tensor: int, vec: Ints, holders: Holders, tables: Tables, levels: int) -> None:
    """Put a tensor's holder at tile ``vec`` around the state ``now``."""
    fill, level, tensors = holders.fill, holders.level, tables.relevant.shape[0]
    credit = 3 + levels + tensors
    visits = moved_elements(tensor, vec, tables)
    for rank in range(tables.relevant.shape[1]):
        if not tables.relevant[tensor, rank]:
            visits *= tables.trips[rank, vec[rank]]
    now[0] += visits * fill[tensor, 0] - fill[tensor, 2]
    now[3 + level] += visits * fill[tensor, 1] - fill[tensor, 3]
    now[credit] += fill[tensor, 2]
    now[credit + 1 + level] += fill[tensor, 3]
    now[2] += holders.width[tensor] * tile_elements(tensor, vec, tables)
    now[3 + levels + tensor] = visits


@_jit
def foresee(row: Floats, number: int, holders: Holders, tables: Tables, levels: int) -> None:
    """Charge the holders further out than ``number`` for the least that they can be visited."""
    fill, level, least = holders.fill, holders.level, tables.least
    for later in range(number + 1, holders.order.shape[0]):
        other = holders.order[later]
        row[0] += least[other] * fill[other, 0] - fill[other, 2]
        row[3 + level] += least[other] * fill[other, 1] - fill[other, 3]
        row[3 + levels + other] = least[other]


@_jit
def stack(  # noqa: C901 - one compiled loop over flat arrays
    part: tuple[int, int],
    states: States,
    holders: Holders,
    tables: Tables,
    outlook: Outlook,
    goal: Goal,
    out: States,
    start: int,
    tally: Floats,
) -> tuple[int, int]:
    """Put one level's holders around the states of ``part``, writing new ones from ``start`` on.

    A loop is placed only below a holder that it spares a visit: elsewhere a smaller tile is at least
    as good. Returns the number of new states and the first state that did not fit the output.
    """
    outer_start, outer_list, relevant = tables.outer_start, tables.outer_list, tables.relevant
    order, width = holders.order, holders.width
    levels = outlook.level_lanes.shape[0]
    ranks = relevant.shape[1]
    columns = states.row.shape[1]
    held = order.shape[0]
    var_rank = np.empty(held * (ranks + 1), np.int64)
    var_place = np.empty(held * (ranks + 1), np.int64)
    ends = np.empty(held, np.int64)
    depth = 0
    for place_number in range(held):
        for rank in range(ranks):
            if tables.benefits[order[place_number], rank]:
                var_rank[depth], var_place[depth] = rank, place_number
                depth += 1
        var_rank[depth], var_place[depth], ends[place_number] = -1, place_number, depth
        depth += 1
    vec = np.empty((depth + 1, ranks), np.int64)
    acc = np.empty((held + 1, columns))
    used = np.zeros(held + 1)
    choice = np.empty(depth + 1, np.int64)
    low, peek = np.empty(5), np.empty(5)
    trial = np.empty(columns)
    emitted = start
    for state in range(part[0], part[1]):
        mark = emitted
        vec[0, :] = states.idx[state]
        acc[0, :] = states.row[state]
        used[0] = 0.0
        at = 0
        choice[0] = -2
        while at >= 0:
            rank, number = var_rank[at], var_place[at]
            here = vec[at]
            if rank >= 0:
                begin, end = outer_start[rank, here[rank]], outer_start[rank, here[rank] + 1]
                # Nothing lies further out than the last holder: all that spares it visits goes there.
                if outlook.final and number == held - 1 and not relevant[order[number], rank]:
                    begin = end - 1
                pick = begin if choice[at] == -2 else choice[at] + 1
                if pick >= end:
                    at -= 1
                    continue
                choice[at] = pick
                option = outer_list[rank, pick]
                vec[at + 1, :] = here
                vec[at + 1, rank] = option
                if used[number] + room_taken(number, vec[at + 1], holders, tables) > holders.capacity:
                    at -= 1
                    continue
                at += 1
                choice[at] = -2
                continue
            if choice[at] != -2:
                at -= 1
                continue
            choice[at] = 0
            tally[0] += 1
            tensor = order[number]
            used[number + 1] = used[number] + width[tensor] * tile_elements(tensor, here, tables)
            if used[number + 1] > holders.capacity:
                at -= 1
                continue
            now = acc[number + 1]
            now[:] = acc[number]
            charge(now, tensor, here, holders, tables, levels)
            if outlook.at_once[tensor]:
                settle(now, tensor, levels, outlook.place)
            trial[:] = now
            foresee(trial, number, holders, tables, levels)
            bound(trial, low, tables, outlook, goal.relaxed)
            if beaten(low, goal):
                at -= 1
                continue
            if number + 1 < held:
                vec[at + 1, :] = here
                at += 1
                choice[at] = -2
                continue
            if outlook.final and goal.lexicographic:
                if not improves(now, low, peek, tables, outlook, goal, tally):
                    at -= 1
                    continue
                emitted = start
            if emitted >= out.back.shape[0]:
                return mark, state
            write(out, emitted, state, here, now, low)
            for each in range(held):
                for r in range(ranks):
                    out.tiles[emitted, order[each], r] = vec[ends[each], r]
            emitted += 1
            at -= 1
    return emitted, part[1]


@_jit
def spread(  # noqa: C901 - one compiled loop over flat arrays
    part: tuple[int, int],
    states: States,
    side: Side,
    tables: Tables,
    outlook: Outlook,
    goal: Goal,
    out: States,
    start: int,
    tally: Floats,
) -> tuple[int, int]:
    """Put the loops of one spatial dimension around states: every combination of ranks that fits ``size``."""
    tiles, trips, steps, relevant = tables.tiles, tables.trips, tables.steps, tables.relevant
    idx, row, bounds = states.idx, states.row, states.bounds
    side_start, side_list = tables.side_start, tables.side_list
    levels = outlook.level_lanes.shape[0]
    tensors, ranks = relevant.shape
    credit = 3 + levels + tensors
    vec = np.empty((ranks + 1, ranks), np.int64)
    room = np.empty(ranks + 1, np.int64)
    choice = np.empty(ranks + 1, np.int64)
    now = np.empty(row.shape[1])
    low, peek, hope = np.empty(5), np.empty(5), np.empty(5)
    reached = np.empty(ranks + 1)
    emitted = start
    output = tensors - 1
    for state in range(part[0], part[1]):
        mark = emitted
        vec[0, :] = idx[state]
        room[0] = side.size
        reached[0] = 1.0
        hope[:] = bounds[state]
        at = 0
        choice[0] = -2
        while at >= 0:
            here = vec[at]
            if at < ranks:
                pick = side_start[at, here[at]] if choice[at] == -2 else choice[at] + 1
                if pick >= side_start[at, here[at] + 1]:
                    at -= 1
                    continue
                option = side_list[at, pick]
                if option > here[at] and not side.allowed[at]:
                    at -= 1
                    continue
                choice[at] = pick
                used = -(-tiles[at, option] // tiles[at, here[at]])
                if used > room[at]:
                    at -= 1
                    continue
                room[at + 1] = room[at] // used
                reached[at + 1] = reached[at] * steps[at, here[at]] / steps[at, option]
                # The rest of the dimension and all later ones working, at the least energy known so far.
                hope[0] = max(
                    bounds[state, 0], row[state, 1] / (reached[at + 1] * room[at + 1] * outlook.lanes)
                )
                hope[2] = hope[0] * hope[1]
                if beaten(hope, goal):
                    continue
                vec[at + 1, :] = here
                vec[at + 1, at] = option
                at += 1
                choice[at] = -2
                continue
            at -= 1
            tally[0] += 1
            lanes, whole = 1.0, 1.0
            now[:] = row[state]
            saved = 1.0
            for r in range(ranks):
                if here[r] != idx[state, r]:
                    share = trips[r, idx[state, r]] / trips[r, here[r]]
                    lanes *= steps[r, idx[state, r]] / steps[r, here[r]]
                    whole *= math.ceil(tiles[r, here[r]] / tiles[r, idx[state, r]])
                    if not relevant[output, r]:
                        saved *= share
                    for tensor in range(tensors):
                        if not relevant[tensor, r]:
                            now[3 + levels + tensor] /= share
            now[1] /= lanes
            now[2] *= whole
            now[0] -= now[credit] * (saved - 1.0)
            now[credit] *= saved
            for level in range(levels):
                now[3 + level] = (now[3 + level] - now[credit + 1 + level] * (saved - 1.0)) / lanes
                now[credit + 1 + level] *= saved / lanes
            for tensor in range(tensors):
                if outlook.at_once[tensor] and now[3 + levels + tensor] > 0.0:
                    settle(now, tensor, levels, outlook.place)
            bound(now, low, tables, outlook, goal.relaxed)
            if beaten(low, goal):
                continue
            if outlook.final and goal.lexicographic:
                if not improves(now, low, peek, tables, outlook, goal, tally):
                    continue
                emitted = start
            if emitted >= out.back.shape[0]:
                return mark, state
            write(out, emitted, state, here, now, low)
            emitted += 1
    return emitted, part[1]


@_jit
def undominated(keys: Ints, row: Floats, columns: Ints, signs: Floats, order: Ints) -> Bools:
    """Which states no other of the same tile matches or betters in every column; ``order`` sorts them."""
    count = order.shape[0]
    kept = np.zeros(count, np.bool_)
    group = np.empty(count, np.int64)
    members = 0
    previous = -1
    for position in range(count):
        state = order[position]
        if position == 0 or keys[state] != previous:
            members = 0
            previous = keys[state]
        dominated = False
        for member in range(members):
            other = group[member]
            better = True
            for c in range(columns.shape[0]):
                mine, theirs = row[state, columns[c]] * signs[c], row[other, columns[c]] * signs[c]
                if theirs > mine + abs(mine) * 1e-13:
                    better = False
                    break
            if better:
                dominated = True
                break
        if not dominated:
            kept[state] = True
            group[members] = state
            members += 1
    return kept
