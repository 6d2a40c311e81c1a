# SPDX-License-Identifier: BSD-3-Clause
"""What usertools/vhub-bench is made of, in the order in which it is used.

  setting     CPUs, hugepages, folders of one measurement; what this machine is
  backends    what is measured: vhubd, and the peers of Debian's packages
  line        how far the CPUs of both sides are from each other
  frontends   what makes the load: vhub-perf, dpdk-testpmd's virtio-user, idle sessions
  cases       the list of what is compared with what, in suites
  runner      lets the sides of a case take turns
  stats       medians, ratios, and which side was the limit
  report      the table on the terminal, results.json, report.html
  plots       SVG and PNG

Programs are started by the classes of test/e2e (vhubd.py, testpmd.py), which the tests use as well.
"""
