"""Passes derived from dependences against passes by enumeration of every scalar operation."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.naive_passes import NaivePasses
from workloads._einsum import Access, Cascade, Einsum, Index, access, constant
from workloads._passes import all_passes

RANKS = ("i", "j", "t")
SIZES = {"i": 3, "j": 2, "t": 8}


def index(rank: str, offset: int = 0) -> Index:
    return Index(((rank, 1),), offset)


class Pool:
    """Tensors that an Einsum may read, and how."""

    def __init__(self) -> None:
        self.accesses: list[Access] = []
        self.inputs = 0

    def fresh(self, draw: st.DrawFn) -> Access:
        """A new input over some ranks."""
        self.inputs += 1
        ranks = draw(st.lists(st.sampled_from(RANKS), unique=True, min_size=1, max_size=2))
        found = access(f"X{self.inputs}", *sorted(ranks))
        self.accesses.append(found)
        return found

    def operand(self, draw: st.DrawFn) -> Access:
        """A tensor that is there already, or now and then a new one."""
        if not self.accesses or draw(st.integers(0, 4)) == 0:
            return self.fresh(draw)
        return draw(st.sampled_from(self.accesses))


def mapped(draw: st.DrawFn, name: str, pool: Pool) -> Einsum:
    """A map of one or two operands, some of their ranks reduced or kept."""
    operands = tuple(pool.operand(draw) for _ in range(draw(st.integers(1, 2))))
    ranks = tuple(dict.fromkeys(rank for operand in operands for rank in operand.ranks))
    dropped = draw(st.sets(st.sampled_from(RANKS)))
    kept = tuple(rank for rank in ranks if rank not in dropped)
    reduced = set(ranks) != set(kept)
    made = Einsum(
        access(name, *kept), operands, "identity" if len(operands) == 1 else "mul", "add" if reduced else None
    )
    pool.accesses.append(made.output)
    return made


def recurrence(draw: st.DrawFn, name: str, pool: Pool) -> list[Einsum]:
    """A state along t, its start, and a step that may reduce the state over another rank before."""
    source = pool.operand(draw)
    rest = tuple(sorted(set(source.ranks) - {"t"}))
    state = Access(name, (index("t"), *(index(rank) for rank in rest)))
    after = Access(name, (index("t", 1), *(index(rank) for rank in rest)))
    first = constant(Access(name, (Index((), 0), *(index(rank) for rank in rest))), 0.0)
    body = []
    if len(rest) > 0 and draw(st.booleans()):
        middle = access(f"{name}R", "t", *rest[1:])
        body.append(Einsum(middle, (state, source), "mul", "add"))
        again = draw(st.booleans())
        other = source if again else pool.operand(draw)
        kept = set(other.ranks) <= {"t", *rest}
        body.append(Einsum(after, (state, middle, other if kept else source), "add"))
    else:
        body.append(Einsum(after, (state, source), "add"))
    final = Access(name, (Index((), SIZES["t"]), *(index(rank) for rank in rest)))
    pool.accesses += [state, after, final]
    return [first, *body]


@st.composite
def cascades(draw: st.DrawFn) -> Cascade:
    """Reductions, recurrences and elementwise maps, of inputs and of each other's results."""
    pool = Pool()
    einsums: list[Einsum] = []
    for number in range(draw(st.integers(2, 6))):
        if draw(st.integers(0, 3)) == 0:
            einsums += recurrence(draw, f"H{number}", pool)
        else:
            einsums.append(mapped(draw, f"Y{number}", pool))
    used = {rank for einsum in einsums for rank in einsum.ranks}
    return Cascade("random", {rank: SIZES[rank] for rank in RANKS if rank in used}, tuple(einsums))


@given(cascades())
@settings(max_examples=200, deadline=None)
def test_passes_equal_those_by_enumeration(cascade: Cascade) -> None:
    naive = NaivePasses(cascade)
    numbers = naive.passes()
    for rank, found in all_passes(cascade).items():
        assert found.count == max((n for (_, name), n in numbers.items() if name == rank), default=1)
        trips = naive.trips(rank)
        expected = [tuple(e for e in trips if trips[e] == n) for n in sorted(set(trips.values()))]
        assert list(found.trips) == expected
