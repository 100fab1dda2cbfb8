"""keypoint-folds: a competition pipeline for facial keypoints. The library; `stages/` holds its commands."""
