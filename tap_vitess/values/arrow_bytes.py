"""Images -> each column's bytes as Arrow's arrays, with no object a row and none a value. Pure.

All values of some images are one binary array: its offsets are the running sum of the lengths, its
buffer is the bytes as they came, and NULL is in its validity. A column is every n-th of its values,
which is one call. Lengths are read by kernels too: protobuf's own list has an object a length, and
takes ten times as long.

What surprised us: a kernel costs some microseconds however few values there are. So the number of
calls matters more than the work in each, and it pays to convert many rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tap_vitess.errors import ProtocolError
from tap_vitess.protocol.columns import MARK, Images
from tap_vitess.values.kernels import Kernels

_LONGEST = 5  # bytes of a length that a message has room for
_LARGE = 1 << 27  # bytes: lengths below are of four bytes at most


class Cutter:
    """Cuts the values of rows of one width."""

    def __init__(self, kernels: Kernels, width: int, where: str) -> None:
        """Prepare.

        Args:
            width: how many values a row has.
            where: keyspace, table and shard, for errors.
        """
        self._kernels, self._pa = kernels, kernels.pa
        self._width = width
        self._where = where
        self._low, self._high = (kernels.pa.scalar(n, kernels.pa.uint8()) for n in (0x7F, 0x80))
        self._of_kind = {
            kind: {n: kernels.pa.scalar(n, kind) for n in (0, 1, 7, 14, 21, 28)}
            for kind in (self._pa.uint8(), self._pa.uint32(), self._pa.int64())
        }

    def cut(self, images: Images, columns: Sequence[int]) -> list[Any]:
        """Return the bytes of some columns, each with a buffer of its own.

        Raises:
            ProtocolError: the images are not whole rows.
        """
        pa, kernels = self._pa, self._kernels
        step = self._width + 1  # the mark after each row
        every = self._every(images, step)
        *found, marks = [
            kernels.take(every, kernels.arange(index, len(every), step), boundscheck=False)
            for index in (*columns, self._width)
        ]
        ends = kernels.arange(0, (images.count + 1) * len(MARK), len(MARK))
        wanted = [
            None,
            kernels.cast(ends, pa.int32()).buffers()[1],
            pa.py_buffer(MARK * images.count),
        ]
        if not marks.equals(pa.Array.from_buffers(pa.binary(), images.count, wanted)):
            raise self._misfit()
        return found

    def _every(self, images: Images, step: int) -> Any:
        """Return all values of images."""
        pa, pc = self._pa, self._kernels
        kind = pa.int64() if len(images.values) >= _LARGE else pa.uint32()
        lengths = self._lengths(images.lengths, kind)
        count = len(lengths) - 1
        if step == 1 or count != images.count * step:
            raise ProtocolError(
                f"{self._where}: rows of other columns than the {self._width} of their FIELD"
            )
        one = self._of_kind[lengths.type][1]
        null = pc.equal(lengths[1:], one)
        if pc.sum(pc.bit_wise_and(lengths, one)).as_py() != null.true_count:
            raise self._none()  # below -1
        sizes = pc.shift_right(lengths, one)
        if pc.sum(sizes).as_py() != len(images.values):
            raise self._misfit()
        # Wide enough, as the sum above has shown.
        same = sizes.type == pa.uint32()  # which a view takes without a look at each
        sizes = sizes.view(pa.int32()) if same else pc.cast(sizes, pa.int32())
        offsets = pc.cumulative_sum(sizes).buffers()[1]
        valid = pc.invert(null).buffers()[1] if null.true_count else None
        return pa.Array.from_buffers(
            pa.binary(), count, [valid, offsets, pa.py_buffer(images.values)]
        )

    def _lengths(self, packed: bytes, kind: Any) -> Any:
        """Return a 0, and the lengths as they are packed: twice the length, 1 for NULL."""
        return self._bytes(b"\x00" + packed) if packed.isascii() else self._varints(packed, kind)

    def _varints(self, packed: bytes, kind: Any) -> Any:
        """Read varints: seven bits of each byte, the lowest first, the eighth where one goes on.

        A number is made at each byte, and those that do not begin there are left out.
        """
        pc, numbers = self._kernels, self._of_kind[kind]
        longest = _LONGEST if kind.bit_width == 64 else _LONGEST - 1
        if packed[-1] & 0x80:
            raise self._none()
        count = 1 + len(packed)
        each = self._bytes(b"\x00\x00" + packed + bytes(longest))
        goes_on = pc.greater_equal(each, self._high)
        bits = pc.cast(pc.bit_wise_and(each, self._low), kind)
        found, going = bits[1 : 1 + count], goes_on[1 : 1 + count]
        for place in range(1, longest + 1):
            if not going.true_count:
                break
            if place == longest:
                raise self._none()
            part = slice(1 + place, 1 + place + count)
            high = pc.shift_left(bits[part], numbers[7 * place])
            found = pc.add(found, pc.if_else(going, high, numbers[0]))
            going = pc.and_(going, goes_on[part])
        return pc.filter(found, pc.invert(goes_on[:count]))

    def _bytes(self, raw: bytes) -> Any:
        pa = self._pa
        return pa.Array.from_buffers(pa.uint8(), len(raw), [None, pa.py_buffer(raw)])

    def _none(self) -> ProtocolError:
        return ProtocolError(f"{self._where}: an invalid length")

    def _misfit(self) -> ProtocolError:
        return ProtocolError(f"{self._where}: a row's lengths are not those of its values")
