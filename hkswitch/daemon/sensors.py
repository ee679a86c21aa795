"""The accessories of groups' sensors, which show whether a group is in trouble."""

from typing import Final

from pyhap import const

from hkswitch.daemon.identities import own_firmware_revision, sensor_identity_of
from hkswitch.hap.database import Retyped
from hkswitch.hap.driver import Driver
from hkswitch.model.group import AlertSensor, Group

SENSORS: Final = {
    AlertSensor.CONTACT: ("ContactSensor", "ContactSensorState"),
    AlertSensor.OCCUPANCY: ("OccupancySensor", "OccupancyDetected"),
    AlertSensor.LEAK: ("LeakSensor", "LeakDetected"),
}
"""The service of each sensor, and its characteristic: 1 is an open contact, or something detected."""

SENSOR_TYPES: Final = {"80": AlertSensor.CONTACT, "86": AlertSensor.OCCUPANCY, "83": AlertSensor.LEAK}
"""The sensors, by the HAP service types in the state file."""


class SensorAccessory(Retyped):
    """The accessory of a group's sensor. Its value is a verdict, so there is always one to read."""

    former: "SensorAccessory | None" = None
    """The same sensor with its former type."""

    def __init__(self, driver: Driver, group: Group, sensor: AlertSensor) -> None:
        """Start without anything detected."""
        self.sensor = sensor
        self.category = const.CATEGORY_SENSOR
        known = sensor_identity_of(group, driver.taken_over)
        super().__init__(driver, known.name, aid=known.aid, iid_manager=driver.database.iids_of(known.aid))
        self.set_info_service(own_firmware_revision(), known.manufacturer, known.model, known.serial_number)
        service_name, characteristic = SENSORS[sensor]
        self._state = self.add_preload_service(service_name).get_characteristic(characteristic)

    @property
    def is_detected(self) -> bool:
        """Whether it shows trouble."""
        return bool(self._state.value)

    def show(self, *, detected: bool) -> None:
        """Store a verdict, and send it if it changed."""
        self._state.set_value(int(detected))
        if self.former is not None:
            self.former.show(detected=detected)


def sensor_for(
    group: Group, sensor: AlertSensor, before: SensorAccessory | None, driver: Driver
) -> SensorAccessory:
    """Return the accessory of a group's sensor: the one from before if nothing of it changed."""
    if before is not None and (before.display_name, before.sensor) == (group.alert_name, sensor):
        return before
    accessory = SensorAccessory(driver, group, sensor)
    written = SENSOR_TYPES.get(driver.database.written_type(accessory.aid) or "", sensor)
    if written is not sensor:
        accessory.former = SensorAccessory(driver, group, written)
    if before is not None:
        accessory.show(detected=before.is_detected)
    return accessory
