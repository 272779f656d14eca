"""Time, memory and energy of a run. Each reading has a unit and a source, or a reason why there is no value."""

from tuneoff.profiling.machine import Sensor, describe_machine, read_sensors, usable_cores
from tuneoff.profiling.meter import PROCESSES_VARIABLE, Meter, PhaseMeter

__all__ = ["PROCESSES_VARIABLE", "Meter", "PhaseMeter", "Sensor", "describe_machine", "read_sensors", "usable_cores"]
