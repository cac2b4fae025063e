# Where it all goes, how it is found there, and what is in which Debian package.
include(CMakePackageConfigHelpers)
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/intaglio)

# Not the folder, which keeps headers of earlier configurations.
install(FILES ${configured_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/intaglio
        COMPONENT development)
foreach(name IN LISTS libraries)
  install(TARGETS intaglio_${name}_shared EXPORT intaglio-targets
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${name}
                  NAMELINK_COMPONENT development)
  install(TARGETS intaglio_${name}_static EXPORT intaglio-static-targets
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
endforeach()
foreach(targets IN ITEMS intaglio-targets intaglio-static-targets)
  install(EXPORT ${targets} NAMESPACE intaglio:: DESTINATION ${config_dir} COMPONENT development)
endforeach()
if(INTAGLIO_PROGRAMS)
  install(TARGETS intaglio-classify intaglio-convert
          RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
  install(PROGRAMS slurm/submit.sh
          DESTINATION ${CMAKE_INSTALL_DATADIR}/intaglio/slurm COMPONENT tools)
  install(FILES slurm/shard.sbatch slurm/merge.sbatch
          DESTINATION ${CMAKE_INSTALL_DATADIR}/intaglio/slurm COMPONENT tools)
endif()

# find_package(intaglio CONFIG)
set(static_packages Threads)
if(INTAGLIO_IMAGE)
  list(APPEND static_packages JPEG PNG)
endif()
if(INTAGLIO_CONVERT)
  list(APPEND static_packages ZLIB)
endif()
list(JOIN static_packages " " static_packages)
configure_package_config_file(intaglio-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/intaglio-config.cmake
  INSTALL_DESTINATION ${config_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/intaglio-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/intaglio-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/intaglio-config-version.cmake
        DESTINATION ${config_dir} COMPONENT development)

# pkg-config: the prefix is found from where the file lies, so that a tree can be moved.
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" up "${up}")
function(intaglio_pkg_config output description private_libraries)
  configure_file(library.pc.in ${output}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${output}.pc
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endfunction()
intaglio_pkg_config(intaglio "${PROJECT_DESCRIPTION}" "-lstdc++ -lm -pthread")
if(INTAGLIO_IMAGE)
  intaglio_pkg_config(intaglio_image "Image decoding and preprocessing for Intaglio"
    "-ljpeg -lpng -lstdc++ -lm")
endif()
if(INTAGLIO_CONVERT)
  intaglio_pkg_config(intaglio_convert "Converts checkpoints of Vision Transformers for Intaglio"
    "-lintaglio_image -lintaglio -ljpeg -lpng -lzip -ldnnl -lz -lstdc++ -lm -pthread")
endif()

if(NOT PROJECT_IS_TOP_LEVEL)
  return()
endif()

# Debian packages, one per component.
function(intaglio_package component package section description)
  string(TOUPPER ${component} key)
  set(CPACK_DEBIAN_${key}_PACKAGE_NAME ${package} PARENT_SCOPE)
  set(CPACK_DEBIAN_${key}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(CPACK_COMPONENT_${key}_DESCRIPTION "${description}" PARENT_SCOPE)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package}
          RENAME copyright COMPONENT ${component})
endfunction()
set(CPACK_COMPONENTS_ALL ${libraries} development)
set(same_version "")
foreach(name IN LISTS libraries)
  get_target_property(output intaglio_${name}_shared OUTPUT_NAME)
  string(REPLACE _ - package lib${output}${INTAGLIO_SOVERSION})
  intaglio_package(${name} ${package} libs "${PROJECT_DESCRIPTION} (library ${output})")
  list(APPEND same_version "${package} (= ${PROJECT_VERSION})")
endforeach()
intaglio_package(development libintaglio-dev libdevel "${PROJECT_DESCRIPTION} (development)")
list(JOIN same_version ", " CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS)
if(INTAGLIO_PROGRAMS)
  list(APPEND CPACK_COMPONENTS_ALL tools)
  intaglio_package(tools intaglio-tools science "${PROJECT_DESCRIPTION} (programs)")
endif()
set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
# Who makes packages passes -DCPACK_PACKAGE_CONTACT="Name <address>"; the project has no address.
if(NOT CPACK_PACKAGE_CONTACT)
  set(CPACK_PACKAGE_CONTACT "Intaglio developers <developers@intaglio.invalid>")
endif()
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
include(CPack)
