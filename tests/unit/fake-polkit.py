#!/usr/bin/python3
"""A polkit that answers what a file says (yes, no, ask), and notes in another what it was asked."""
import os
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib


class Authority(dbus.service.Object):
    @dbus.service.method("org.freedesktop.PolicyKit1.Authority", in_signature="(sa{sv})sa{ss}us", out_signature="(bba{ss})")
    def CheckAuthorization(self, subject, action, details, flags, cancellation):
        with open(sys.argv[2], "a") as asked:
            asked.write(f"{action} {subject[0]} {subject[1]['name']} flags={int(flags)}\n")
        answer = open(sys.argv[1]).read().strip()
        return (answer == "yes", answer == "ask", dbus.Dictionary({}, signature="ss"))


dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(os.environ["MEMD_BUS"])
name = dbus.service.BusName("org.freedesktop.PolicyKit1", bus)
Authority(bus, "/org/freedesktop/PolicyKit1/Authority")
GLib.MainLoop().run()
