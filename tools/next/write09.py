# argv: OUT. Rows of 09's arms, as its own cells make them.
results.write(own_rows + own_tests, argv[0])
m = main_measure = MEASURES[level][0]
split = [r for r in own_rows + own_tests if r.split == problem.split.name]
rule = m.definition
print("\nDONE", run.scenario, results.table(split, "all", m.name, m.definition), flush=True)
for f in (results.table, results.verdicts, results.differences, results.trainings):
    print("\n", f.__name__, f(split, "all", m.name, *([m.definition] if f in (results.table, results.trainings) else [])), flush=True)
