package shop;

import java.math.BigDecimal;

record Order(int number, String customer, BigDecimal amount, Means paidBy) {
    enum Means { CASH, CARD }
}
