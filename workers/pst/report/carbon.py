"""Energy and emissions of a run, by codecarbon in its offline mode: no network, no file.

codecarbon starts in a thread of its own, since looking for the machine's meters takes seconds. It samples the power of
processor, memory and NVIDIA GPUs (RAPL and NVML where the machine lets it, else an estimate from load and type) every
few seconds. Whatever goes wrong with it becomes a sentence in the result: a measure never stops a run.

Emissions are energy times the carbon intensity of the grid. The country is a fact about the machine, given in the
environment as ``PST_COUNTRY`` (three letters, ISO 3166); without it the world's average is taken.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import threading
import time
from typing import Any

COUNTRY = "PST_COUNTRY"
WORLD_GRAMS = 475.0  # gCO2e a kWh, the world's average that codecarbon uses itself (International Energy Agency, 2019)
SAMPLE_SECONDS = 10
LONGEST_WAIT = 10.0  # seconds to wait at the end for a thread that still starts
SHORTEST_RUN = 20.0  # seconds; a shorter run does not wait for its measure
METHOD = "this process's share of processor and memory, and all of the GPUs that it sees"


class Carbon:
    """Measures while it is open; :meth:`stop` gives the result. Does nothing unless ``on``."""

    def __init__(self, *, on: bool = True) -> None:
        self._on, self._ended = on, False
        self._tracker: Any = None
        self._problem: str | None = None
        self._thread: threading.Thread | None = None
        self._begin = time.monotonic()

    def __enter__(self) -> Carbon:
        """Begin to measure; returns at once."""
        if not self._on:
            return self
        if importlib.util.find_spec("codecarbon") is None:
            self._problem = "codecarbon is not installed"
            return self
        self._thread = threading.Thread(target=self._start, name="carbon", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = True
        if self._tracker is not None:
            self._end(self._tracker)

    def _start(self) -> None:
        country = os.environ.get(COUNTRY, "").strip().upper()
        try:
            library = importlib.import_module("codecarbon")
            logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # what it says before log_level counts
            tracker = library.OfflineEmissionsTracker(
                country_iso_code=country or "USA",
                force_carbon_intensity_g_co2e_kwh=None if country else WORLD_GRAMS,
                measure_power_secs=SAMPLE_SECONDS,
                tracking_mode="process",
                output_methods=[],
                allow_multiple_runs=True,  # without it, codecarbon leaves a lock file
                log_level="critical",
            )
            tracker.start()
            self._tracker = tracker
            if self._ended:  # the run was over before the meters were found
                self._end(tracker)
        except Exception as error:
            self._problem = f"codecarbon could not start: {type(error).__name__}: {error}"

    def _end(self, tracker: Any) -> Any:
        """codecarbon's data, or None and ``_problem``."""
        try:
            tracker.stop()
            return tracker.final_emissions_data
        except Exception as error:
            self._problem = f"codecarbon could not stop: {type(error).__name__}: {error}"
            return None

    def stop(self, seconds: float) -> dict[str, Any]:
        """End the measurement, and return it for the report; ``kwh`` is None where there is none.

        ``seconds`` is what the run took in all its attempts. What was not measured, as attempts before a pause, is
        counted at the mean power of what was: both lengths of time are given.
        """
        present = time.monotonic() - self._begin
        result: dict[str, Any] = {"kwh": None, "grams_co2e": None, "seconds": seconds, "measured_seconds": 0.0}
        if self._thread is not None:
            self._thread.join(LONGEST_WAIT if present > SHORTEST_RUN else 0.0)
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return result | {"reason": self._problem or "the run ended before the meters were found"}
        data = self._end(tracker)
        if data is None or not data.energy_consumed:
            return result | {"reason": self._problem or "codecarbon measured no energy"}
        kwh, measured = float(data.energy_consumed), float(data.duration)
        grams = float(data.emissions) * 1000 / kwh
        share = max(1.0, seconds / measured)
        return result | {
            "kwh": kwh * share,
            "grams_co2e": kwh * share * grams,
            "measured_seconds": measured,
            "by_part_kwh": {
                "processor": float(data.cpu_energy) * share,
                "gpu": float(data.gpu_energy) * share,
                "memory": float(data.ram_energy) * share,
            },
            "assumptions": {
                "method": f"codecarbon {data.codecarbon_version} offline: {METHOD}",
                "grid": data.country_name if os.environ.get(COUNTRY, "").strip() else None,
                "grams_co2e_per_kwh": grams,
                "processor": data.cpu_model or None,
                "gpu": data.gpu_model or None,
                "pue": float(data.pue),
            },
        }
