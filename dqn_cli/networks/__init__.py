"""Networks: a torso makes features, a head makes an output object, a Q-network is both."""
