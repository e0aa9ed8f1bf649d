"""A statistical deformation model of hearts: registration, principal modes, draws. Owned by the atlas
stage.
"""
