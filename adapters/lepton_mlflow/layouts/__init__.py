"""How a model of each framework lies in an MLflow model directory, written without importing the framework."""
