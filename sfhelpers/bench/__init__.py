"""How long things take, as ratios and medians of one run; times depend on the machine, so nothing here is asserted.

python -m sfhelpers.bench
"""
