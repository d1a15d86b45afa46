# The manual and the shells' completion, written by the command itself. Target `manual`, installed where man and the shells look.
set(manual_folder ${PROJECT_BINARY_DIR}/manual)
set(completion_folder ${PROJECT_BINARY_DIR}/completion)
add_custom_command(
  OUTPUT ${manual_folder}/muster.1 ${completion_folder}/muster ${completion_folder}/_muster ${completion_folder}/muster.fish
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${manual_folder} ${completion_folder}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${manual_folder} ${completion_folder}
  COMMAND muster_command help --man-folder ${manual_folder}
  COMMAND muster_command completion bash > ${completion_folder}/muster
  COMMAND muster_command completion zsh > ${completion_folder}/_muster
  COMMAND muster_command completion fish > ${completion_folder}/muster.fish
  DEPENDS muster_command
  COMMENT "Writing the manual"
  VERBATIM)
add_custom_target(manual ALL DEPENDS ${manual_folder}/muster.1)
add_dependencies(programs manual)

install(DIRECTORY ${manual_folder}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
install(FILES ${completion_folder}/muster DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${completion_folder}/muster.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
# Debian's zsh looks for what packages bring in a folder of its own, and under /usr/local where every zsh does.
install(CODE "
  set(folder site-functions)
  if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\" AND EXISTS /etc/debian_version)
    set(folder vendor-completions)
  endif()
  file(INSTALL \"${completion_folder}/_muster\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}/zsh/\${folder}\")")
