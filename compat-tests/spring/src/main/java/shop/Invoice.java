package shop;

import java.math.BigDecimal;

record Invoice(int order, String customer, BigDecimal amount) {}
