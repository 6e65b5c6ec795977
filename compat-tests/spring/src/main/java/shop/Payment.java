package shop;

/** A payment; the bank refuses it this many times. */
record Payment(int number, int refusals) {}
