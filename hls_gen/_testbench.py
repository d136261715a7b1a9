"""The generated testbench: tensors from files, one call, one comparison."""

from __future__ import annotations

from hls_gen import _cpp as cpp
from hls_gen._kernel import KernelSpec, Port, ports, top_name

_FOLDER = cpp.Name("folder")


def testbench_source(spec: KernelSpec) -> cpp.Source:
    """``src/testbench.cpp``: exits 1 and names the first difference if the kernel is wrong."""
    *inputs, result = ports(spec)
    call = cpp.Call(
        top_name(spec), tuple(cpp.Method(cpp.Name(each.name), "data") for each in (*inputs, result))
    )
    arguments = (cpp.Parameter(cpp.Type("int"), "argc"), cpp.Parameter(cpp.Type("char**"), "argv"))
    folder = cpp.Call("archsim::testbench::folder", (cpp.Name("argc"), cpp.Name("argv")))
    body: tuple[cpp.Statement, ...] = (
        cpp.Declaration(cpp.Type("std::string", const=True), "folder", value=folder),
        *(_read(port, port.name) for port in inputs),
        _read(result, f"expected_{result.name}"),
        cpp.Declaration(_vector(result), result.name, arguments=(cpp.Integer(result.size),)),
        call,
        cpp.Return(_check(result)),
    )
    return cpp.Source(
        (
            *(cpp.Include(each, system=True) for each in ("cstdint", "string", "vector")),
            cpp.Include(f"{spec.name}.hpp"),
            cpp.Include("archsim/testbench.hpp"),
            cpp.Include("archsim/types.hpp"),
            cpp.Function(cpp.Type("int"), "main", arguments, body),
        )
    )


def _vector(port: Port) -> cpp.Type:
    return cpp.Type("std::vector", (cpp.Type(port.element.cpp),))


def _read(port: Port, name: str) -> cpp.Declaration:
    kinds = (cpp.Type(port.element.stored), cpp.Type(port.element.cpp))
    read = cpp.Call("archsim::testbench::read", (_FOLDER, cpp.Text(name), cpp.Integer(port.size)), kinds)
    return cpp.Declaration(cpp.Type("auto", const=True), name, value=read)


def _check(result: Port) -> cpp.Call:
    names = (cpp.Name("argc"), cpp.Name("argv"), cpp.Text(result.name), cpp.Integer(result.shape[-1]))
    got = (cpp.Name(result.name), cpp.Name(f"expected_{result.name}"))
    return cpp.Call("archsim::testbench::check", (*names, *got))
