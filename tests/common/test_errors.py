from pipeline.common.errors import LONG, summarise


def test_summarise_of_a_long_list_counts_its_commonest_kinds():
    missing = [f"/x/f.csv:{i + 2}: face {i} (a: b/{i}.jpg): image /x/{i}.jpg is missing" for i in range(7)]
    far = [f"f.xml:4: face 3 (a.jpg): points {part}: more than 1.5 box sizes from the middle of the box"
           for part in ("1", "0, 2")]
    others = ["f.csv: no faces", "params.yaml: data.x: unknown key (its value: 3); remove it or fix its spelling"]
    assert summarise([*far, *missing, *others]) == (
        "11 problems: image … is missing (7); points … more than … box sizes from the middle of the box (2); no faces "
        "(1); and others")
    assert summarise([*missing, "plain", *far]) == (
        "10 problems: image … is missing (7); points … more than … box sizes from the middle of the box (2); plain (1)")


def test_summarise_of_a_short_list_is_empty():
    assert summarise(["f: wrong"] * (LONG - 1)) == ""
    assert summarise(["f: wrong"] * LONG) == f"{LONG} problems: wrong ({LONG})"
