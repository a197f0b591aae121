import importlib.util


def test_the_table_of_formats_is_that_of_the_registry(repository):
    spec = importlib.util.spec_from_file_location("formats_table", repository / "tools" / "formats_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "make it anew: python tools/formats_table.py"
