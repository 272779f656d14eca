"""Meters for time, memory and energy: each reading has a unit and a source, or a reason why there is none."""

from tuneoff.resources.machine import Sensor, machine, sensors
from tuneoff.resources.meter import Meter, PhaseMeter

__all__ = ["Meter", "PhaseMeter", "Sensor", "machine", "sensors"]
