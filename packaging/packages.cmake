# Debian packages of what was built: cpack --config build/release/CPackConfig.cmake -B DIRECTORY
# Binary packages: memd; memd-dev for those who write policies; memd-guest-agent for Linux guests.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "The memd developers <memd@example.org>")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL memd memd-dev memd-guest-agent)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS OFF)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
	WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_MEMD_PACKAGE_NAME memd)
set(CPACK_DEBIAN_MEMD_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_MEMD_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_MEMD_PACKAGE_DEPENDS "dbus, init-system-helpers (>= 1.54)")
set(CPACK_DEBIAN_MEMD_PACKAGE_RECOMMENDS "kmod, polkitd")
set(CPACK_COMPONENT_MEMD_DESCRIPTION "memd lets a virtualization host run KVM guests whose memory adds up to more
than the host has. It runs guests of its own, knows where each of their pages
is, and keeps what they take within a budget: by dropping pages of zeros,
keeping equal pages once, asking guests by their balloon, and paging out what
is cold. It can say why each guest has what it has.")
set(CPACK_DEBIAN_MEMD_PACKAGE_CONTROL_EXTRA
	${CMAKE_CURRENT_SOURCE_DIR}/deb/postinst ${CMAKE_CURRENT_SOURCE_DIR}/deb/prerm
	${CMAKE_CURRENT_SOURCE_DIR}/deb/postrm ${CMAKE_CURRENT_SOURCE_DIR}/deb/conffiles)
set(CPACK_DEBIAN_MEMD_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_MEMD-DEV_PACKAGE_NAME memd-dev)
set(CPACK_DEBIAN_MEMD-DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_MEMD-DEV_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_MEMD-DEV_PACKAGE_SUGGESTS memd)
set(CPACK_COMPONENT_MEMD-DEV_DESCRIPTION "Header for policies of memd.
The C interface of memd's policies, which decide how much memory each guest
gets and may be loaded into memd as shared objects.")

set(CPACK_DEBIAN_MEMD-GUEST-AGENT_PACKAGE_NAME memd-guest-agent)
set(CPACK_DEBIAN_MEMD-GUEST-AGENT_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_MEMD-GUEST-AGENT_PACKAGE_DEPENDS "init-system-helpers (>= 1.54)")
set(CPACK_DEBIAN_MEMD-GUEST-AGENT_PACKAGE_ENHANCES "memd")
set(CPACK_COMPONENT_MEMD-GUEST-AGENT_DESCRIPTION "agent of memd for Linux guests.
balloon-agent tells a host with memd how much memory this guest can spare and
needs, makes room when the host is short, and asks for memory before the
kernel has to kill something. One small program without dependencies, for
guests of memd and of QEMU.")
set(CPACK_DEBIAN_MEMD-GUEST-AGENT_PACKAGE_CONTROL_EXTRA
	${CMAKE_CURRENT_SOURCE_DIR}/deb/agent/postinst ${CMAKE_CURRENT_SOURCE_DIR}/deb/agent/prerm
	${CMAKE_CURRENT_SOURCE_DIR}/deb/agent/postrm)
set(CPACK_DEBIAN_MEMD-GUEST-AGENT_PACKAGE_CONTROL_STRICT_PERMISSION ON)

# What Debian wants in each package's directory.
foreach(package memd memd-dev memd-guest-agent)
	add_custom_command(OUTPUT ${package}.changelog.gz VERBATIM DEPENDS deb/changelog
		COMMAND sed "s/^PACKAGE /${package} /" ${CMAKE_CURRENT_SOURCE_DIR}/deb/changelog > ${package}.changelog
		COMMAND gzip -9nf ${package}.changelog)
	add_custom_target(changelog-${package} ALL DEPENDS ${package}.changelog.gz)
	install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${package}.changelog.gz DESTINATION share/doc/${package}
		RENAME changelog.Debian.gz COMPONENT ${package})
	install(FILES deb/${package}.lintian DESTINATION share/lintian/overrides RENAME ${package} COMPONENT ${package})
	install(FILES deb/copyright DESTINATION share/doc/${package} COMPONENT ${package})
endforeach()
include(CPack)
