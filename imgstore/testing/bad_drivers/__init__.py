"""Drivers with one planted fault each: they show that the suites see what they are there to see.

`PLANTED` names for each the one case that must go red. A driver author reads them as a list of what goes
wrong in practice; `proof` gives the suite of a planted driver, ready to run.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imgstore.backends.memory._writer import MemoryWriter
from imgstore.store import Store
from imgstore.testing.bad_drivers import _layers as layers
from imgstore.testing.bad_drivers import _puts as puts
from imgstore.testing.bad_drivers import _reading as reading
from imgstore.testing.bad_drivers import _streams as streams
from imgstore.testing.bad_drivers import _telling as telling
from imgstore.testing.bad_drivers import _uploads as uploads
from imgstore.testing.bad_drivers._good import Facet, FacetDriver, Good
from imgstore.testing.conformance import (
    ExtentSuite,
    LayerSuite,
    ListSuite,
    ReadSuite,
    Suite,
    UploadSuite,
    WriteSuite,
)

__all__ = ["GOOD", "PLANTED", "Planted", "proof"]


@dataclass(frozen=True, slots=True)
class Planted:
    """A driver, or for the LayerSuite a layer, and the one case of `suite` that goes red with it."""

    driver: type[Any]
    suite: type[Suite]
    case: str | None

    @property
    def name(self) -> str:
        return f"{self.suite.__name__}-{self.driver.__name__}"


def _facet(facet: str, faulty: type[Facet]) -> type[FacetDriver]:
    fields = {"facet": facet, "faulty": faulty, "__doc__": faulty.__doc__}
    return type(faulty.__name__, (FacetDriver,), fields)


_READING: tuple[tuple[type[Store], str], ...] = (
    (reading.OffsetTooHigh, "test_ranges_around_blocks"),
    (reading.OffsetTooLow, "test_last_bytes"),
    (reading.LengthIgnored, "test_body_is_what_the_driver_says"),
    (reading.VersionIgnored, "test_another_version_is_never_served"),
    (reading.EarlyEndAsSuccess, "test_large_image"),
    (reading.WholeImageAtOffset, "test_from_an_offset_to_the_end"),
    (reading.SizeOfTheRange, "test_info_of_a_range_is_of_the_image"),
    (reading.StaleStat, "test_stat_after_a_replacement"),
    (reading.StatOfSectors, "test_stat_tells_the_size"),
    (reading.EtagAsDigest, "test_digests_are_of_the_bytes"),
    (reading.MixedVersions, "test_replacement_during_a_read"),
    (reading.EmptyImageRefused, "test_empty_image"),
    (reading.EndIsEmpty, "test_offset_at_the_end"),
    (reading.KeysStripped, "test_keys_are_never_normalised"),
    (reading.MissingIsPermanent, "test_get_of_a_missing_key"),
    (reading.SecretInError, "test_no_secret_is_shown"),
    (reading.UnpicklableError, "test_errors_survive_pickling"),
    (reading.UnknownIsTransient, "test_translate_of_the_unknown"),
    (reading.StoreErrorsWrapped, "test_translate_keeps_store_errors"),
    (streams.NoneForNothing, "test_small_buffers"),
    (streams.WritesBehindTheCount, "test_buffer_behind_the_count_is_untouched"),
    (streams.WritesAfterTheReturn, "test_buffer_is_the_callers_after_the_return"),
    (streams.AbortIgnored, "test_pending_read_is_called_off"),
    (streams.DeadlineIgnored, "test_deadline_ends_a_pending_read"),
    (streams.LeakingClose, "test_close_gives_everything_back"),
    (streams.LeakingFailure, "test_failed_get_gives_everything_back"),
    (streams.StreamsEndWithTheStore, "test_streams_outlive_the_store"),
    (streams.ClientOfTheParent, "test_works_after_a_fork"),
)

_FACETS: tuple[tuple[str, type[Suite], type[Facet], str], ...] = (
    ("writer", WriteSuite, puts.Preallocating, "test_readers_see_nothing_of_an_unfinished_put"),
    ("writer", WriteSuite, puts.DeletingFirst, "test_readers_see_the_old_until_the_new_is_whole"),
    ("writer", WriteSuite, puts.DigestsIgnored, "test_wrong_digest_publishes_nothing"),
    ("writer", WriteSuite, puts.SurplusIgnored, "test_source_of_another_size_publishes_nothing"),
    ("writer", WriteSuite, puts.TakenIgnored, "test_put_refuses_a_taken_key"),
    ("writer", WriteSuite, puts.CheckedTooEarly, "test_one_of_many_puts_wins"),
    ("writer", WriteSuite, puts.SourceClosed, "test_source_is_neither_closed_nor_seeked"),
    ("writer", WriteSuite, puts.ShortReadIsTheEnd, "test_short_reads_are_no_end"),
    ("writer", WriteSuite, puts.PartialKept, "test_what_the_source_raises_is_raised"),
    ("writer", WriteSuite, puts.TemporaryKept, "test_failed_put_leaves_nothing"),
    ("writer", WriteSuite, puts.Uncancellable, "test_cancellation_during_a_put"),
    ("writer", WriteSuite, puts.MissingDeleted, "test_delete_of_a_missing_key"),
    ("writer", WriteSuite, puts.AnyVersionDeleted, "test_delete_of_another_version"),
    ("uploader", UploadSuite, uploads.CompletedTwice, "test_complete_is_idempotent"),
    ("uploader", UploadSuite, uploads.BufferKept, "test_caller_may_reuse_the_buffer"),
    ("uploader", UploadSuite, uploads.AbortedCompletes, "test_abort_drops_the_upload"),
    ("uploader", UploadSuite, uploads.FirstPartWins, "test_part_put_again_replaces_it"),
    ("uploader", UploadSuite, uploads.PartsNotAsked, "test_complete_with_parts_missing"),
    ("uploader", UploadSuite, uploads.LeftOutDestroyed, "test_failed_complete_leaves_what_parts_tells"),
    ("uploader", UploadSuite, uploads.ConflictIgnored, "test_second_writer_gets_a_conflict"),
    ("uploader", UploadSuite, uploads.UploadUnproven, "test_wrong_digest_publishes_nothing"),
    ("lister", ListSuite, telling.Unsorted, "test_order_is_that_of_the_bytes"),
    ("lister", ListSuite, telling.OnePage, "test_every_image_once"),
    ("lister", ListSuite, telling.PrefixIsAPattern, "test_prefix_is_no_pattern"),
    ("lister", ListSuite, telling.ForeignVersions, "test_versions_are_acceptable_to_get"),
    ("extents", ExtentSuite, telling.FromTheBlock, "test_extents_cover_a_range"),
    ("extents", ExtentSuite, telling.GapForAHole, "test_extents_cover_the_image"),
    ("extents", ExtentSuite, telling.TailIsZero, "test_zeros_and_holes_read_as_zeros"),
    ("extents", ExtentSuite, telling.MissingHasNone, "test_extents_of_a_missing_key"),
    ("extents", ExtentSuite, telling.OfAnyVersion, "test_extents_of_another_version"),
)

_LAYERS: tuple[tuple[type[layers.GoodLayer], str], ...] = (
    (layers.FacetDropped, "test_facets_are_passed_or_wrapped"),
    (layers.StoreLeftOpen, "test_closing_the_layer_closes_the_store_inside"),
    (layers.StreamLeftOpen, "test_streams_are_given_back"),
    (layers.TwoPermits, "test_works_with_one_permit"),
    (layers.AnyVersionForgotten, "test_version_is_passed_on"),
    (layers.OwnTranslation, "test_translate_is_the_inner_ones"),
    (layers.CallForgotten, "test_call_is_passed_on"),
)

GOOD: Sequence[Planted] = (
    *(Planted(Good, suite, None) for suite in (ReadSuite, WriteSuite, UploadSuite, ListSuite, ExtentSuite)),
    Planted(layers.GoodLayer, LayerSuite, None),
)
PLANTED: Sequence[Planted] = (
    *(Planted(driver, ReadSuite, case) for driver, case in _READING),
    *(Planted(_facet(facet, faulty), suite, case) for facet, suite, faulty, case in _FACETS),
    *(Planted(layer, LayerSuite, case) for layer, case in _LAYERS),
)


def proof(planted: Planted) -> type[Suite]:
    """Gives the suite of `planted` with its hooks filled in."""
    name = f"Proof{planted.driver.__name__}"
    if planted.suite is LayerSuite:
        return type(name, (LayerSuite,), {"layer": lambda _, inner: planted.driver(inner)})
    return type(name, (_Place, planted.suite), {"driver": planted.driver})


class _Place(Suite):
    driver: type[Good]

    def setup_method(self) -> None:
        super().setup_method()
        self.place = self.driver()
        # not the driver's own, which may be the faulty one
        self.writer_of_the_place = MemoryWriter(self.place._images)

    def store(self) -> Store:
        return self.place

    def seed(self, key: str, data: bytes) -> None:
        self.writer_of_the_place.put(key, io.BytesIO(data))

    def replace(self, key: str, data: bytes) -> None:
        self.writer_of_the_place.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key: str) -> None:
        self.writer_of_the_place.delete(key)

    def stall(self, key: str) -> None:
        self.place.stalled.add(key)

    def full(self) -> Store:
        store = self.driver()
        store._images.capacity = 1000
        return store

    def secrets(self) -> Sequence[str]:
        return (reading.SECRET,)
