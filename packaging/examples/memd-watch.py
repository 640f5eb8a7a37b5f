#!/usr/bin/python3
"""Watches memd on the bus: the guests and what each costs, then every change of state until it is interrupted.

Needs python3-dbus and python3-gi. MEMD_BUS may hold the address of another bus than the system's.
"""
import os
import sys

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

MANAGER = "org.memd1.Manager"
GUEST = "org.memd1.Guest"


def properties(bus, path, interface):
    proxy = bus.get_object("org.memd1", path)
    return proxy.GetAll(interface, dbus_interface="org.freedesktop.DBus.Properties")


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    address = os.environ.get("MEMD_BUS", "system")
    bus = dbus.SystemBus() if address == "system" else dbus.bus.BusConnection(address)
    manager = dbus.Interface(bus.get_object("org.memd1", "/org/memd1"), MANAGER)

    host = properties(bus, "/org/memd1", MANAGER)
    print(f"{host['UsedBytes'] >> 20} of {host['BudgetBytes'] >> 20} MiB used, state {host['HostState']}")
    for name, path, state in manager.ListGuests():
        guest = properties(bus, path, GUEST)
        print(f"{name}: {state}, costs {guest['ResidentBytes'] >> 20} MiB, target {guest['TargetBytes'] >> 20} MiB: "
              f"{guest['TargetReason']}")
    sys.stdout.flush()
    if "--once" in sys.argv:
        return

    def state_changed(old, new, reason, path=None):
        print(f"{path.rsplit('/', 1)[1]}: {old} -> {new} {reason}", flush=True)

    def host_state_changed(old, new, reason):
        print(f"host: {old} -> {new}: {reason}", flush=True)

    bus.add_signal_receiver(state_changed, "StateChanged", GUEST, "org.memd1", path_keyword="path")
    bus.add_signal_receiver(host_state_changed, "HostStateChanged", MANAGER, "org.memd1")
    GLib.MainLoop().run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except dbus.exceptions.DBusException as e:
        sys.exit(f"memd-watch: {e.get_dbus_message()}")
