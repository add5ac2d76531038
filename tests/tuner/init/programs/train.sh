# A shell script with a variable, which prints a table.
LR=${LR:-0.1}
awk -v lr="$LR" 'BEGIN { print "| metric | value |"; print "| accuracy | " 1 - lr " |" }'
