"""LRPExplain: why a model said what it said about a volume, by Layer-wise Relevance Propagation.

    from LRPExplainLib.explain import explain
    explanation = explain("model.ts", ["t1.nii.gz"], target="lesion")
    explanation.save("out")

Nothing is imported here, so that a part is loaded (and needs its packages) only when it is asked for.
"""

__version__ = "0.1.0"
