"""The layers of the methods that PST is compared with. Which name means which layer:
:data:`pst.layers.inject.LAYERS`."""
