from __future__ import annotations

from imgstore.layers.limit import LimitLayer
from imgstore.testing.conformance import LayerSuite
from imgstore.testing.conformance._base import SIZE, pattern


class InParts(LayerSuite):
    """The suite for a layer that asks for one part at a time, each of `part_size` bytes."""

    part_size = 16 << 10
    one_permit = False

    def store(self):
        return self.layer(LimitLayer(self.place, max_streams=1) if self.one_permit else self.place)

    def test_works_with_one_permit(self):
        self.one_permit = True
        super().test_works_with_one_permit()

    def test_read_is_one_request(self):
        """It is one for each part."""
        self.read(self.image(pattern(SIZE)), 1000)
        starts = [start for start, *_ in self.place.opens]
        assert starts[0] == 1000
        assert sorted(starts[1:]) == [*range(self.part_size, SIZE, self.part_size)]
