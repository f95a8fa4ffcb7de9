"""XGBoost, LightGBM and CatBoost models in the libraries' own formats, which carry no code."""

from __future__ import annotations

from pathlib import Path

from lepton_mlflow.layouts.contents import is_catboost, is_lightgbm, is_xgboost, require
from lepton_mlflow.layouts.layout import Layout, installed, pyfunc, requirement


def xgboost(path: Path) -> Layout:
    require(is_xgboost(path), path, "xgboost", "a model that Booster.save_model wrote (JSON or UBJSON)")
    model_format = "json" if path.suffix == ".json" else "ubj"
    data = f"model.{model_format}"
    return Layout(
        framework="xgboost",
        flavors={
            "xgboost": {
                "xgb_version": installed("xgboost"),
                "data": data,
                "model_class": "xgboost.core.Booster",
                "model_format": model_format,
                "code": None,
            },
            "python_function": pyfunc("mlflow.xgboost", data=data),
        },
        files={data: path},
        requirements=[requirement("xgboost")],
    )


def lightgbm(path: Path) -> Layout:
    require(is_lightgbm(path), path, "lightgbm", 'a model that Booster.save_model wrote (text that begins with "tree")')
    return Layout(
        framework="lightgbm",
        flavors={
            "lightgbm": {
                "lgb_version": installed("lightgbm"),
                "data": "model.lgb",
                "model_class": "lightgbm.basic.Booster",
                "code": None,
            },
            "python_function": pyfunc("mlflow.lightgbm", data="model.lgb"),
        },
        files={"model.lgb": path},
        requirements=[requirement("lightgbm")],
    )


def catboost(path: Path) -> Layout:
    require(is_catboost(path), path, "catboost", "a model that save_model wrote (.cbm)")
    return Layout(
        framework="catboost",
        flavors={
            "catboost": {
                "catboost_version": installed("catboost"),
                "model_type": "CatBoost",
                "save_format": "cbm",
                "data": "model.cb",
                "code": None,
            },
            "python_function": pyfunc("mlflow.catboost", data="model.cb"),
        },
        files={"model.cb": path},
        requirements=[requirement("catboost")],
    )
