"""The host sees Qt as PythonQt does, and refuses what PythonQt refuses."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from host import pythonqt
from host.host import Host


@pytest.fixture
def qt(host: Host) -> Any:
    import qt

    return qt


def test_properties_are_attributes_and_their_getters_are_gone(qt: Any) -> None:
    label = qt.QLabel("a")
    assert label.text == "a"
    label.text = 3.5
    assert label.text == "3.5"
    with pytest.raises(TypeError, match="not callable"):
        label.text()
    label.setText("b")
    assert label.text == "b"
    label.objectName = "some"
    assert label.name == "some"


@pytest.mark.parametrize("value", [None, "yes", [1]])
def test_a_bool_property_takes_numbers_only(qt: Any, value: Any) -> None:
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="does not accept"):
        button.enabled = value


def test_nothing_new_is_set_on_a_cpp_object(qt: Any) -> None:
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="not allowed"):
        button.helper = 1
    with pytest.raises(AttributeError, match="can not be overwritten"):
        button.clicked = 1
    with pytest.raises(AttributeError, match="not writable"):
        button.width = 3
    with pytest.raises(AttributeError, match="no attribute named"):
        _ = button.helper


def test_dynamic_properties_become_attributes(qt: Any) -> None:
    widget = qt.QWidget()
    widget.setProperty("SlicerParameterName", "a.b")
    assert widget.property("SlicerParameterName") == "a.b"
    assert widget.SlicerParameterName == "a.b"


def test_classes_do_not_inherit_from_each_other(qt: Any) -> None:
    button = qt.QPushButton()
    assert type(button) is qt.QPushButton
    assert not isinstance(button, qt.QWidget)
    assert button.inherits("QWidget")
    assert button.className() == "QPushButton"


def test_an_object_has_one_wrapper_and_children_come_as_a_tuple(qt: Any) -> None:
    parent = qt.QWidget()
    child = qt.QLabel("x", parent)
    child.objectName = "inner"
    assert parent.children() == (child,)
    assert child.parent() is parent
    assert parent.inner is child
    assert parent.findChildren(qt.QLabel) == (child,)


@pytest.mark.parametrize("name", ["Signal", "Slot", "Property", "SIGNAL", "QtWidgets"])
def test_what_pyside_adds_to_qt_is_not_there(qt: Any, name: str) -> None:
    assert not hasattr(qt, name)


def test_enumerators_are_unscoped(qt: Any) -> None:
    assert qt.QFrame.HLine is not None
    assert qt.Qt.AlignLeft | qt.Qt.AlignTop
    with pytest.raises(AttributeError):
        _ = qt.QFrame.Shape.HLine
    frame = qt.QFrame()
    frame.frameShape = qt.QFrame.HLine
    assert frame.frameShape == qt.QFrame.HLine


def test_signals_are_connected_by_signature_or_attribute_and_arguments_are_cut_for_functions(qt: Any) -> None:
    button, heard = qt.QPushButton(), []
    assert button.connect("clicked(bool)", lambda: heard.append("none"))
    button.clicked.connect(lambda checked: heard.append(checked))
    button.connect("clicked()", lambda *all_of_them: heard.append(all_of_them))
    button.click()
    assert heard == ["none", False, ()]


def test_a_receiver_can_be_disconnected(qt: Any) -> None:
    button, heard = qt.QPushButton(), []

    class Receiver:
        def hear(self) -> None:
            heard.append(1)

    receiver = Receiver()
    button.clicked.connect(receiver.hear)
    assert button.clicked.disconnect(receiver.hear)
    assert not button.disconnect("clicked(bool)", receiver.hear)
    button.click()
    assert heard == []


def test_a_connection_keeps_its_receiver_alive(qt: Any) -> None:
    button, heard = qt.QPushButton(), []

    class Receiver:
        def hear(self) -> None:
            heard.append(1)

    button.clicked.connect(Receiver().hear)
    gc.collect()
    button.click()
    assert heard == [1]


def test_a_signal_that_does_not_exist_is_refused_and_told(qt: Any) -> None:
    button = qt.QPushButton()
    assert not button.connect("clicked(int)", print)
    assert pythonqt.complaints == ["PythonQt: QObject::connect() signal 'clicked(int)' does not exist on QPushButton"]
    pythonqt.complaints.clear()


def test_a_python_class_derived_from_qt_overrides_virtual_methods(qt: Any) -> None:
    class Filter(qt.QObject):
        def __init__(self) -> None:
            qt.QObject.__init__(self)
            self.seen: list[Any] = []

        def eventFilter(self, target: Any, event: Any) -> bool:
            if event.type() == qt.QEvent.EnabledChange:
                self.seen.append(target)
            return False

    widget, observer = qt.QWidget(), Filter()
    widget.installEventFilter(observer)
    widget.enabled = False
    assert observer.seen == [widget]


def test_an_object_without_parent_dies_with_its_last_reference(qt: Any) -> None:
    heard: list[int] = []
    timer = qt.QTimer()
    timer.connect("timeout()", lambda: heard.append(1))
    timer.start(0)
    del timer
    gc.collect()
    qt.QApplication.processEvents()
    assert heard == []


def test_a_deleted_object_says_so(qt: Any, host: Host) -> None:
    parent = qt.QWidget()
    child = qt.QLabel(parent)
    del parent
    gc.collect()
    assert not child
    with pytest.raises(ValueError, match="destroyed"):
        _ = child.text


def test_an_exception_in_a_slot_is_recorded(qt: Any, host: Host) -> None:
    button = qt.QPushButton()
    button.clicked.connect(lambda: 1 / 0)
    button.click()
    assert len(host.errors) == 1
    assert "ZeroDivisionError" in host.errors[0]
    host.errors.clear()


def test_a_process_is_a_real_one(qt: Any, host: Host) -> None:
    process, ended = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append(code))
    process.start("sh", ["-c", "echo hello; exit 3"])
    host.wait(lambda: ended, 10)
    assert ended == [3]
    assert process.readAllStandardOutput().data() == b"hello\n"
