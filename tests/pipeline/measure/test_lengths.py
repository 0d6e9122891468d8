from pipeline.measure import lengths


def test_a_pair_is_as_long_as_both_its_texts():
    assert lengths.of(["a", "four"], None) == [1, 4]
    assert lengths.of(["a", "four"], ["longer", ""]) == [7, 4]
