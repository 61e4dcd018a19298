"""Widgets of CTK and Slicer that a `.ui` file can name, over PySide6: each with what Python sees of it in Slicer."""

from . import ctk_widgets, mrml_nodes, mrml_widgets, spinning

CTK: dict[str, type] = {
    each.__name__: each
    for each in (
        ctk_widgets.ctkCollapsibleButton,
        ctk_widgets.ctkComboBox,
        ctk_widgets.ctkFittedTextBrowser,
        ctk_widgets.ctkPathLineEdit,
        ctk_widgets.ctkCheckBox,
        spinning.ctkDoubleSlider,
        spinning.ctkDoubleSpinBox,
        spinning.ctkRangeWidget,
        spinning.ctkSliderWidget,
    )
}
MRML: dict[str, type] = {
    each.__name__: each
    for each in (
        mrml_nodes.qMRMLNodeComboBox,
        mrml_nodes.qMRMLColorTableComboBox,
        mrml_nodes.qMRMLSegmentSelectorWidget,
        mrml_widgets.qMRMLWidget,
        mrml_widgets.qMRMLSliderWidget,
        mrml_widgets.qMRMLSpinBox,
        mrml_widgets.qMRMLTableView,
        mrml_widgets.qMRMLPlotView,
    )
}
ALL: dict[str, type] = {**CTK, **MRML}
