from counting import Counting


class Counter(Counting):
    version = "2"
