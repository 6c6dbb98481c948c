"""`dlbench balance`: which balancing policy serves best, in processes and in the server's simulation, cell by cell."""
