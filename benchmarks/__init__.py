"""What a user gets, measured side by side with the reference (``llama_agents.server.WorkflowServer``).

``python -m benchmarks`` starts both as processes that serve the same workflows, drives them in interleaved rounds,
throws away rounds that another process on the machine disturbed, prints the figures with their targets and writes
them as JSON, from which ``python -m benchmarks.page`` makes docs/performance.md.

==============  ============================================================================================
contenders      the servers that are measured, ours and the reference's, and how each is started
workflows       what all of them serve
site, reference our settings; the reference's process
load, wrk       load generators, as processes
machine         processor time and memory, read from /proc
rounds          one round after the other, disturbed ones again
figures         what was measured: values with median, min and max
targets         what is to be reached
measures        one module for each kind of measure
results         figures <-> JSON
report          the tables that are printed
store           handlers in bulk, through the ORM
page, plots     docs/performance.md, after the pattern of page.md
==============  ============================================================================================
"""
