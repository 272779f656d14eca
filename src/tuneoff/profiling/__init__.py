"""Meters for time, memory and energy: each reading has a unit and a source, or a reason why there is none."""

from tuneoff.profiling.machine import Sensor, machine, sensors, usable_cores
from tuneoff.profiling.meter import PROCESSES_VARIABLE, Meter, PhaseMeter

__all__ = ["PROCESSES_VARIABLE", "Meter", "PhaseMeter", "Sensor", "machine", "sensors", "usable_cores"]
