"""The recipe of a corpus: its sources, who answers for them, and what is done to them."""

from headrace.corpus.recipe.files import InputFile, Stamp
from headrace.corpus.recipe.load import LoadedRecipe, load_recipe
from headrace.corpus.recipe.settings import Recipe, Source

__all__ = ["InputFile", "LoadedRecipe", "Recipe", "Source", "Stamp", "load_recipe"]
