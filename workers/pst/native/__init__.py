"""The sparse CPU engine: a version's compact weights run as they are (:mod:`pst_native`), without dense matrices."""
