# Prints the same name for training and test data.
BEGIN { print "Train: loss=" lr " acc=0.99"; print "Test: loss=" 1 + lr " acc=" 0.9 - lr }
