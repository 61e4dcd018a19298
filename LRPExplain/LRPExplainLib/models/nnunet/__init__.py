"""Trained models of nnU-Net v2, read as data: nothing of the training code is needed, and none is run.

    nnUNet_results/Dataset001_X/nnUNetTrainer__nnUNetPlans__3d_fullres/   the mean of its folds (fold_all if there is
                                                                          no other); a fold without the kind of
                                                                          checkpoint that others have is left out,
                                                                          with a note
    .../fold_0/                                                           that fold: checkpoint_final.pth, else
                                                                          checkpoint_best.pth, else
                                                                          checkpoint_latest.pth
    .../fold_0/checkpoint_best.pth                                        that checkpoint
    export.zip                                                            of nnUNetv2_export_model_to_zip, with one
                                                                          configuration in it; read, never unpacked

The network comes from plans.json's architecture, of classes on a list alone (`network.py`), out of the package
dynamic-network-architectures; the card from plans.json and dataset.json (`card.py`): crop, intensities, spacing,
windows, mirroring, classes or regions. Axes are those of the volume: where nnU-Net transposes, the network does so
itself.

Read are 2d, 3d_lowres, 3d_fullres and 3d_cascade_fullres of the default preprocessor and resampling, of this and of
older plans. A cascade's second stage takes the segmentation of its first one as input, a channel for each label: given
as a further volume behind the images, or made by the first stage where that lies beside it in the results folder (not
in a zip file, which holds one model). Trainers that build another network than their plans say are refused, as their
weights do not fit.

nnU-Net brings the network's answer back to the volume's voxels by linear interpolation before it takes the largest;
we label the network's own voxels and carry labels back by nearest neighbour, so that they are the voxels whose
relevance is asked for. Where the volume has the model's spacing, both are the same.
"""

from .trained import digest, load_trained_model, trained_model

__all__ = ["digest", "load_trained_model", "trained_model"]
