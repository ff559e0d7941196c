"""From whole heads to bias-corrected, brain-extracted, registered and segmented images.

Three steps: ``extract`` (geometry, brain mask, bias field), ``register`` (posture and affine to
the template, mid-coronal slice), ``segment`` (tissues, quality). The profiles say what is wanted of
them: ``fsl-anat`` the images in native space, ``mni-gm`` the template-space images with grey matter
cut out, ``coronal`` the slice in standard posture.

Assumes adult T1-weighted heads; the brain extraction also takes other contrasts. The template is
the ICBM152 2009a nonlinear symmetric one in ``atlas`` (Fonov et al. 2011, NeuroImage 54).
"""
