package shop;

record Click(int number, String page) {}
