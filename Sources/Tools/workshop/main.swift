// Exercises that the kernel judges: workshop [COMMAND]

import CommandLineTool
import Judging

print("workshop")
