"""What commands print of names that come from elsewhere."""

from maskseg.cli.say import say


def test_what_is_no_text_is_shown_and_not_carried_out(capsys):
    say("a\x1b[31mb\u202ec\ud800\nä ü", err=True)
    assert capsys.readouterr().err == "a\\x1b[31mb\\u202ec\\ud800\nä ü\n"
