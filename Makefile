# The same two commands as `python course.py lab|test`. Options: make lab ARGS="--no-browser --port 9000"
PYTHON ?= python3

.PHONY: lab test
lab test:
	$(PYTHON) course.py $@ $(ARGS)
