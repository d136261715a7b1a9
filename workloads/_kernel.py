"""Kernels: the runs of Einsums that a machine executes as one step, derived from the cascade.

A product with what follows it on the same elements (bias, scale, residual, function, softmax,
normalisation) is one kernel; so are a normalisation and a softmax that stand alone. Whatever is
left is elementwise, one kernel an Einsum. Only structure is matched, never a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from workloads._einsum import Access, Cascade, Einsum


@dataclass(frozen=True, slots=True)
class Requantise:
    """``function(value * scales + bias + residual)``, any of them absent."""

    scales: tuple[str, ...] = ()
    """Scalar or per-column factors."""
    bias: str | None = None
    residual: Access | None = None
    function: str | None = None
    argument: str | None = None
    """The tensor that ``function`` is applied to; None where the product's own Einsum applies it."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax of ``value * scales`` along the columns."""

    scales: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Normalise:
    """LayerNorm (``centred``) or RMSNorm along the columns, of ``value * scales + bias + residual``."""

    argument: str
    """The tensor that is normalised."""
    scales: tuple[str, ...] = ()
    bias: str | None = None
    residual: Access | None = None
    gamma: str | None = None
    beta: str | None = None
    centred: bool = True


Epilogue = Requantise | Softmax | Normalise


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """``output[b, m, n] = epilogue(sum over k of streamed[b, m, k] * stationary[b, k, n])``."""

    streamed: Access
    stationary: Access
    output: Access
    batch: tuple[str, ...]
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    inner: tuple[str, ...]
    epilogue: Epilogue
    einsums: tuple[int, ...]
    """Positions in the cascade."""

    @property
    def name(self) -> str:
        """The kernel is named for the tensor that it makes."""
        return self.output.tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rowwise:
    """An epilogue alone, on a tensor in memory: ``output[m, n] = epilogue(source[m, n])``."""

    source: Access
    output: Access
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    epilogue: Epilogue
    einsums: tuple[int, ...]

    @property
    def name(self) -> str:
        """The kernel is named for the tensor that it makes."""
        return self.output.tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """Any other Einsum: ``points`` operator applications over its iteration space."""

    inputs: tuple[Access, ...]
    output: Access
    ranks: tuple[str, ...]
    einsums: tuple[int, ...]

    @property
    def name(self) -> str:
        """The kernel is named for the tensor that it makes."""
        return self.output.tensor


Kernel = Product | Rowwise | Elementwise


def kernels(cascade: Cascade) -> tuple[Kernel, ...]:
    """Partition ``cascade`` into kernels, in dependence order; each Einsum is in exactly one."""
    return tuple(_Matcher(cascade).run())


def ranks_of(access: Access) -> tuple[str, ...]:
    """Ranks of ``access`` in the order of its dimensions, each once."""
    return tuple(dict.fromkeys(rank for index in access.indices for rank, _ in index.terms))


@dataclass(slots=True)
class _Chain:
    """What has been matched behind a value so far."""

    access: Access
    einsums: list[int]
    scales: tuple[str, ...] = ()
    bias: str | None = None
    residual: Access | None = None


@dataclass(slots=True)
class _Matcher:
    cascade: Cascade
    consumers: dict[str, list[int]] = field(default_factory=dict)
    produced: set[str] = field(default_factory=set)
    makers: dict[str, int] = field(default_factory=dict)
    """Last position that writes each tensor."""
    constants: dict[str, int] = field(default_factory=dict)
    """Vectors and scalars made of nothing but such inputs (a batch norm's gain), and where."""
    folded: set[int] = field(default_factory=set)
    """Positions of those that a kernel has taken in."""

    def __post_init__(self) -> None:
        for position, einsum in enumerate(self.cascade.einsums):
            self.produced.add(einsum.output.tensor)
            self.makers[einsum.output.tensor] = position
            for access in einsum.inputs:
                users = self.consumers.setdefault(access.tensor, [])
                if position not in users:
                    users.append(position)
            small = all(
                a.tensor in self.constants or (a.tensor not in self.produced and len(ranks_of(a)) <= 1)
                for a in einsum.inputs
            )
            if small and len(ranks_of(einsum.output)) <= 1 and einsum.reduce is None:
                self.constants[einsum.output.tensor] = position

    def run(self) -> Iterator[Kernel]:
        """The kernels; constants that one of them folds in are no kernels of their own."""
        found = list(self._run())
        return (kernel for kernel in found if not set(kernel.einsums) <= self.folded)

    def _run(self) -> Iterator[Kernel]:
        taken: set[int] = set()
        for position, einsum in enumerate(self.cascade.einsums):
            if position in taken:
                continue
            kernel = self._kernel(position, einsum)
            assert taken.isdisjoint(set(kernel.einsums) - self.folded)
            taken.update(kernel.einsums)
            yield kernel

    def _kernel(self, position: int, einsum: Einsum) -> Kernel:
        if _is_product(einsum):
            return self._product(position, einsum)
        return self._rowwise(position, einsum) or Elementwise(
            inputs=einsum.inputs,
            output=einsum.output,
            ranks=tuple(dict.fromkeys(r for a in (einsum.output, *einsum.inputs) for r in ranks_of(a))),
            einsums=(position,),
        )

    def _product(self, position: int, einsum: Einsum) -> Product:
        left, right = einsum.inputs
        if left.tensor not in self.produced and right.tensor in self.produced:
            left, right = right, left
        mine, other, out = set(ranks_of(left)), set(ranks_of(right)), ranks_of(einsum.output)
        cols = tuple(rank for rank in out if rank in other and rank not in mine)
        chain = _Chain(einsum.output, [position])
        access, epilogue = (
            (einsum.output, Requantise(function=einsum.unary))
            if einsum.unary
            else self._epilogue(chain, cols)
        )
        return Product(
            streamed=left,
            stationary=right,
            output=access,
            batch=tuple(rank for rank in out if rank in mine and rank in other),
            rows=tuple(rank for rank in out if rank in mine and rank not in other),
            cols=cols,
            inner=tuple(rank for rank in ranks_of(left) if rank in other and rank not in out),
            epilogue=epilogue,
            einsums=tuple(chain.einsums),
        )

    def _rowwise(self, position: int, einsum: Einsum) -> Rowwise | None:
        for source in einsum.inputs:
            ranks = ranks_of(source)
            if not ranks or einsum.map not in {"max", "identity", "mul", "add", "sub"}:
                continue
            chain = _Chain(source, [])
            found = self._softmax(chain, ranks[-1:]) or self._normalise(chain, ranks[-1:])
            if found is not None and position in chain.einsums and min(chain.einsums) == position:
                access, epilogue = found
                return Rowwise(
                    source=source,
                    output=access,
                    rows=ranks[:-1],
                    cols=ranks[-1:],
                    epilogue=epilogue,
                    einsums=tuple(chain.einsums),
                )
        return None

    def _epilogue(self, chain: _Chain, cols: tuple[str, ...]) -> tuple[Access, Epilogue]:
        while True:
            if chain.bias is None and chain.residual is None and (found := self._softmax(chain, cols)):
                return found
            if found := self._normalise(chain, cols):
                return found
            users = self.consumers.get(chain.access.tensor, [])
            einsum = _aligned(self.cascade.einsums[users[0]], chain.access) if len(users) == 1 else None
            if einsum is None or not _same_ranks(einsum.output, chain.access) or einsum.reduce:
                break
            if einsum.map == "identity" and einsum.unary:
                chain.einsums.append(users[0])
                made = Requantise(chain.scales, chain.bias, chain.residual, einsum.unary, chain.access.tensor)
                return einsum.output, made
            if einsum.unary or not self._absorb(chain, einsum, cols):
                break
            chain.einsums.append(users[0])
            chain.access = einsum.output
        return chain.access, Requantise(chain.scales, chain.bias, chain.residual)

    def _absorb(self, chain: _Chain, einsum: Einsum, cols: tuple[str, ...]) -> bool:
        """Take a scale, a bias or a residual into ``chain``; False where ``einsum`` is none of them."""
        others = [access for access in einsum.inputs if access.tensor != chain.access.tensor]
        if len(others) != 1 or len(einsum.inputs) != 2:
            return False
        other = others[0]
        per_column = other.tensor not in self.produced and set(ranks_of(other)) <= set(cols)
        if other.tensor in self.constants and set(ranks_of(other)) <= set(cols):
            per_column = True
            chain.einsums += self._makers(other.tensor)
        if einsum.map == "mul" and per_column and chain.bias is None and chain.residual is None:
            chain.scales += (other.tensor,)
        elif einsum.map == "add" and per_column and chain.bias is None and chain.residual is None:
            chain.bias = other.tensor
        elif einsum.map == "add" and chain.residual is None and self._is_residual(other, chain):
            chain.residual = other
        else:
            return False
        return True

    def _is_residual(self, other: Access, chain: _Chain) -> bool:
        """Whether ``other`` has the chain's shape and is there before the chain's product begins."""
        makers = self.makers.get(other.tensor, -1)
        return makers < chain.einsums[0] and other.indices == chain.access.indices

    def _makers(self, tensor: str) -> list[int]:
        """Positions of the Einsums that make a constant, those that another kernel took aside."""
        position = self.constants[tensor]
        if position in self.folded:
            return []
        self.folded.add(position)
        einsum = self.cascade.einsums[position]
        made = [m for a in einsum.inputs if a.tensor in self.constants for m in self._makers(a.tensor)]
        return [*made, position]

    def _softmax(self, chain: _Chain, cols: tuple[str, ...]) -> tuple[Access, Epilogue] | None:
        """Match max, exp of the difference, sum, quotient, over the columns and read by nothing else."""
        value = chain.access.tensor
        maximum = self._reduction(value, "max", cols)
        if maximum is None or (chain.einsums and len(self.consumers[value]) != 2):
            return None
        exponential = self._pair("sub", value, maximum, unary="exp")
        total = None if exponential is None else self._reduction(self._made(exponential), "add", cols)
        if exponential is None or total is None or len(self.consumers[self._made(exponential)]) != 2:
            return None
        quotient = self._pair("div", self._made(exponential), total)
        if quotient is None:
            return None
        chain.einsums += [maximum, exponential, total, quotient]
        return self.cascade.einsums[quotient].output, Softmax(chain.scales)

    def _made(self, position: int) -> str:
        return self.cascade.einsums[position].output.tensor

    def _reduction(self, tensor: str, operator: str, cols: tuple[str, ...]) -> int | None:
        """The Einsum that reduces ``tensor`` over the columns and does nothing else."""

        def wanted(e: Einsum) -> bool:
            plain = e.reduce == operator and len(e.inputs) == 1 and not e.unary
            return plain and set(e.reduced_ranks) == set(cols)

        return self._one(tensor, wanted)

    def _pair(self, operator: str, tensor: str, statistic: int, *, unary: str | None = None) -> int | None:
        """The only reader of ``statistic``'s result, if it applies ``operator`` to ``tensor`` and that.

        Both are read as ``statistic`` reads the one and makes the other, under whatever rank names;
        ranks of one point do not count.
        """
        units = {rank: 0 for rank, size in self.cascade.ranks.items() if size == 1}
        made = self.cascade.einsums[statistic]
        name, source, reduced = made.output.tensor, made.inputs[0].bind(units), made.output.bind(units)

        def wanted(e: Einsum) -> bool:
            found = (e.map, e.unary, e.reduce, tuple(a.tensor for a in e.inputs))
            if found != (operator, unary, None, (tensor, name)):
                return False
            value, factor = (access.bind(units) for access in e.inputs)
            names = dict(zip(source.ranks, value.ranks, strict=False))
            alike = (_renamed(source, names), _renamed(reduced, names)) == (value, factor)
            return alike and _same_ranks(e.output.bind(units), value)

        return self._one(name, wanted) if len(self.consumers.get(name, [])) == 1 else None

    def _normalise(self, chain: _Chain, cols: tuple[str, ...]) -> tuple[Access, Epilogue] | None:
        """Match the statistics up to the reciprocal root, the product with it, gain and offset."""
        derived, members, root = self._statistics(chain, cols)
        values = {n for n in derived if n == chain.access.tensor or self._is_centred(n, chain.access)}
        squared = any(self._squares(self.cascade.einsums[member], values) for member in members)
        scaled = None if root is None else self._scaled(self._made(root), derived, values)
        if scaled is None or not squared:
            return None
        inside = {*members, scaled}
        # What a product makes is not in memory: nothing else may read it, nor any of the statistics.
        local = derived.keys() if chain.einsums else derived.keys() - {chain.access.tensor}
        if any(user not in inside for name in local for user in self.consumers.get(name, [])):
            return None
        members.append(scaled)
        gamma, last = self._gain("mul", scaled, cols, members)
        beta, last = self._gain("add", last, cols, members)
        argument = chain.access.tensor
        centred = all(a.tensor != argument for a in self.cascade.einsums[scaled].inputs)
        chain.einsums += members
        epilogue = Normalise(argument, chain.scales, chain.bias, chain.residual, gamma, beta, centred)
        return self.cascade.einsums[last].output, epilogue

    def _scaled(self, factor: str, derived: Mapping[str, Access], values: set[str]) -> int | None:
        """The Einsum that multiplies one of ``values`` by ``factor`` and does nothing else."""

        def wanted(e: Einsum) -> bool:
            if (e.map, e.reduce, e.unary) != ("mul", None, None) or len(e.inputs) != 2:
                return False
            read = [a for a in e.inputs if a.tensor in values]
            return len(read) == 1 and self._known(e, derived) == 2 and _same_ranks(e.output, read[0])

        return self._one(factor, wanted)

    @staticmethod
    def _squares(einsum: Einsum, values: set[str]) -> bool:
        """Whether ``einsum`` squares one of ``values``, or sums its squares."""
        read = [access.tensor for access in einsum.inputs]
        if einsum.map == "mul":
            return len(read) == 2 and read[0] == read[1] and read[0] in values
        return (einsum.map, einsum.unary) == ("identity", "square") and read[0] in values

    def _is_centred(self, tensor: str, source: Access) -> bool:
        """Whether ``tensor`` is made as the difference of ``source`` to something."""
        einsum = self.cascade.einsums[self.makers[tensor]]
        return einsum.map == "sub" and einsum.inputs[0].tensor == source.tensor

    def _statistics(
        self, chain: _Chain, cols: tuple[str, ...]
    ) -> tuple[dict[str, Access], list[int], int | None]:
        """Tensors made of the chain's value alone, their positions, and that of a reciprocal root."""
        derived, members = {chain.access.tensor: chain.access}, list[int]()
        waiting = list(self.consumers.get(chain.access.tensor, []))
        while waiting:
            waiting.sort(reverse=True)
            position = waiting.pop()
            einsum = self.cascade.einsums[position]
            if position in chain.einsums or position in members:
                continue
            if self._derives(einsum, derived, cols):
                derived[einsum.output.tensor] = einsum.output
                members.append(position)
                if einsum.unary == "rsqrt":
                    return derived, members, position
                waiting += self.consumers.get(einsum.output.tensor, [])
        return derived, members, None

    def _derives(self, einsum: Einsum, derived: Mapping[str, Access], cols: tuple[str, ...]) -> bool:
        """Whether ``einsum`` is of ``derived`` alone, or applies a scalar to a statistic of the rows."""
        source = next(iter(derived.values()))
        ranks = set(ranks_of(einsum.output))
        known = self._known(einsum, derived)
        scalars = [a for a in einsum.inputs if a.tensor not in self.produced and not a.indices]
        return (
            known > 0
            and known + len(scalars) == len(einsum.inputs)
            and not (scalars and ranks & set(cols))
            and einsum.unary in {None, "rsqrt", "square"}
            and einsum.reduce in {None, "add"}
            and set(einsum.reduced_ranks) in (set(), set(cols))
            and ranks <= set(ranks_of(source))
        )

    @staticmethod
    def _known(einsum: Einsum, derived: Mapping[str, Access]) -> int:
        """How many of its inputs are read from ``derived`` at the very places where they were made."""
        return sum(derived[a.tensor].indices == a.indices for a in einsum.inputs if a.tensor in derived)

    def _gain(
        self, operator: str, position: int, cols: tuple[str, ...], members: list[int]
    ) -> tuple[str | None, int]:
        """The per-column weight that ``operator`` applies to the result of ``position``, if any."""
        result = self.cascade.einsums[position].output
        users = self.consumers.get(result.tensor, [])
        if len(users) == 1:
            einsum = self.cascade.einsums[users[0]]
            others = [a for a in einsum.inputs if a != result]
            if einsum.map == operator and einsum.reduce is None and einsum.unary is None and len(others) == 1:
                other = others[0]
                if (
                    other.tensor not in self.produced
                    and set(ranks_of(other)) <= set(cols)
                    and ranks_of(other)
                ):
                    members.append(users[0])
                    return other.tensor, users[0]
        return None, position

    def _one(self, tensor: str, wanted: Callable[[Einsum], bool]) -> int | None:
        """Position of the only consumer of ``tensor`` for which ``wanted`` holds."""
        found = [p for p in self.consumers.get(tensor, []) if wanted(self.cascade.einsums[p])]
        return found[0] if len(found) == 1 else None


def _is_product(einsum: Einsum) -> bool:
    """Whether ``einsum`` multiplies two tensors and sums over at least one rank of both."""
    if einsum.map != "mul" or einsum.reduce != "add" or len(einsum.inputs) != 2:
        return False
    left, right = (set(ranks_of(access)) for access in einsum.inputs)
    return bool((left & right) - set(ranks_of(einsum.output)))


def _same_ranks(one: Access, other: Access) -> bool:
    return set(ranks_of(one)) == set(ranks_of(other))


def _aligned(einsum: Einsum, access: Access) -> Einsum | None:
    """``einsum`` with its ranks named as in ``access``, which it reads under names of its own."""
    read = next(a for a in einsum.inputs if a.tensor == access.tensor)
    if not (read.is_plain and access.is_plain):
        return None
    names = dict(zip(read.ranks, access.ranks, strict=True))
    if len(set(names.values())) != len(names):
        return None
    others = {rank for a in (einsum.output, *einsum.inputs) for rank in a.ranks} - names.keys()
    if others & set(names.values()):
        return None
    return replace(
        einsum,
        output=_renamed(einsum.output, names),
        inputs=tuple(_renamed(a, names) for a in einsum.inputs),
    )


def _renamed(access: Access, names: Mapping[str, str]) -> Access:
    indices = tuple(
        replace(index, terms=tuple((names.get(rank, rank), factor) for rank, factor in index.terms))
        for index in access.indices
    )
    return Access(access.tensor, indices)
